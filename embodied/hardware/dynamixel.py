"""Robotis' Dynamixel X series, protocol 2.0, through their SDK: registers, models and how an answer is laid out.

Addresses, units and model numbers are those of the control tables of XL430-W250 and XL330-M288 in Robotis' e-manual
(emanual.robotis.com/docs/en/dxl/x/). A servo whose bus falls silent for longer than its bus_watchdog stops by itself.
"""

from __future__ import annotations

import struct
from typing import Any

import dynamixel_sdk

from embodied.hardware.port import BlockingPort
from embodied.hardware.vendor import Model, Register, Row, Status, Vendor

RPM_COUNTS_S = 4096 / 60
REGISTERS = {
    "model_number": Register(0, 2, eeprom=True),
    "firmware": Register(6, 1, eeprom=True),
    "id": Register(7, 1, eeprom=True),
    "baud_rate": Register(8, 1, eeprom=True),
    "return_delay": Register(9, 1, eeprom=True),
    "drive_mode": Register(
        10, 1, eeprom=True
    ),  # 1: counts fall as they grew; 4: profiles are in time; 8: a goal is torque
    "operating_mode": Register(11, 1, eeprom=True),
    "homing_offset": Register(20, 4, signed=True, eeprom=True),
    "max_temperature": Register(31, 1, eeprom=True),
    "max_voltage": Register(32, 2, eeprom=True),
    "min_voltage": Register(34, 2, eeprom=True),
    "torque_limit": Register(36, 2, eeprom=True),  # PWM limit, of 885
    "max_position": Register(48, 4, signed=True, eeprom=True),
    "min_position": Register(52, 4, signed=True, eeprom=True),
    "torque_enable": Register(64, 1),
    "alarms": Register(70, 1),
    "bus_watchdog": Register(
        98, 1, signed=True
    ),  # 20 ms a unit; 0: none, and what it stopped is free again; -1: stopped
    "acceleration": Register(108, 4),  # profile: 214.577 rev/min² a unit; 0: none is kept
    "goal_velocity": Register(112, 4),  # profile: 0.229 rev/min a unit; 0: as fast as it goes
    "goal_position": Register(116, 4, signed=True),
    "present_load": Register(126, 2, signed=True),
    "present_velocity": Register(128, 4, signed=True),
    "present_position": Register(132, 4, signed=True),
    "present_voltage": Register(144, 2),
    "present_temperature": Register(146, 1),
}


BLOCK = struct.Struct("<hii8xHB")  # from present_load to present_temperature


class Port(BlockingPort, dynamixel_sdk.PortHandler):  # type: ignore[misc]
    """Robotis' port, which waits."""


def receive(handler: Any, port: Any) -> tuple[Status | None, int]:  # noqa: ANN401
    """Return the next answer whose checksum is right, and the SDK's result."""
    packet, result = handler.rxPacket(port, False)
    if result != dynamixel_sdk.COMM_SUCCESS:
        return None, result
    length = packet[5] | packet[6] << 8
    return Status(packet[4], packet[8], bytes(packet[9 : length + 5])), result


def unpack(data: bytes) -> Row:
    """Return what a servo's block says."""
    load, velocity, position, voltage, temperature = BLOCK.unpack(data)
    return Row(position, velocity, load, voltage, temperature)


DYNAMIXEL = Vendor(
    name="dynamixel",
    sdk=dynamixel_sdk,
    port=Port,
    protocol=2.0,
    registers=REGISTERS,
    models={
        1060: Model(
            "XL430-W250", load_full=1000.0, top_counts_s=61 * RPM_COUNTS_S
        ),  # load in 0.1 %; 61 rev/min at 12 V
        1190: Model("XL330-M077", load_full=1470.0, top_counts_s=456 * RPM_COUNTS_S),  # stalls at 1.47 A and 5 V, in mA
        1200: Model("XL330-M288", load_full=1470.0, top_counts_s=123 * RPM_COUNTS_S),
    },
    bauds={
        1_000_000: 3,
        9_600: 0,
        57_600: 1,
        115_200: 2,
        2_000_000: 4,
        3_000_000: 5,
        4_000_000: 6,
    },
    status=receive,
    block_at=REGISTERS["present_load"].address,
    block_size=BLOCK.size,
    unpack=unpack,
    firmware=lambda get: str(get("firmware")),
    homing_sign=1,
    velocity_counts_s=0.229 * RPM_COUNTS_S,
    torque_full=885,
    alarms={1: "voltage", 4: "temperature", 8: "sensor", 16: "shock", 32: "overload"},
    error_alarms=0x80,
    strain=0.95,  # it gives up at its "maximum output"
    settled={"drive_mode": 0, "operating_mode": 3},
)

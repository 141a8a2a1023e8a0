"""Feetech's STS servos, through their SDK: registers, models and how an answer is laid out.

Addresses, units and signs are those of the STS3215 memory table in Feetech's manual: numbers come little-endian,
negative ones as a magnitude and a sign bit. Nothing stops such a servo when its host dies.
"""

from __future__ import annotations

import struct
from typing import Any

import scservo_sdk

from embodied.hardware.port import BlockingPort
from embodied.hardware.vendor import Model, Register, Row, Status, Vendor

REGISTERS = {
    "firmware_major": Register(0, 1, eeprom=True),
    "firmware_minor": Register(1, 1, eeprom=True),
    "model_number": Register(3, 2, eeprom=True),
    "id": Register(5, 1, eeprom=True),
    "baud_rate": Register(6, 1, eeprom=True),
    "return_delay": Register(7, 1, eeprom=True),
    "min_position": Register(9, 2, eeprom=True),
    "max_position": Register(11, 2, eeprom=True),
    "max_temperature": Register(13, 1, eeprom=True),
    "max_voltage": Register(14, 1, eeprom=True),
    "min_voltage": Register(15, 1, eeprom=True),
    "max_torque": Register(16, 2, eeprom=True),
    "phase": Register(18, 1, eeprom=True),
    "homing_offset": Register(31, 2, sign_bit=11, eeprom=True),
    "operating_mode": Register(33, 1, eeprom=True),
    "protection_time": Register(35, 1, eeprom=True),  # 10 ms
    "overload_torque": Register(36, 1, eeprom=True),  # %
    "torque_enable": Register(40, 1),
    "acceleration": Register(41, 1),  # 100 counts/s² a unit; 0: none is kept
    "goal_position": Register(42, 2, sign_bit=15),
    "goal_velocity": Register(46, 2, sign_bit=15),  # 0: as fast as it goes
    "torque_limit": Register(48, 2),  # 0.1 %
    "lock": Register(55, 1),  # 1: the EEPROM takes no writes
    "present_position": Register(56, 2, sign_bit=15),
    "present_velocity": Register(58, 2, sign_bit=15),
    "present_load": Register(60, 2, sign_bit=10),  # 0.1 %
    "present_voltage": Register(62, 1),  # 0.1 V
    "present_temperature": Register(63, 1),  # °C
    "alarms": Register(65, 1),
}


BLOCK = struct.Struct("<HHHBB")  # from present_position to present_temperature


class Port(BlockingPort, scservo_sdk.PortHandler):  # type: ignore[misc]
    """Feetech's port, which waits."""


def receive(handler: Any, port: Any) -> tuple[Status | None, int]:  # noqa: ANN401
    """Return the next answer whose checksum is right, and the SDK's result."""
    packet, result = handler.rxPacket(port)
    if result != scservo_sdk.COMM_SUCCESS:
        return None, result
    return Status(packet[2], packet[4], bytes(packet[5 : packet[3] + 3])), result


def unpack(data: bytes) -> Row:
    """Return what a servo's block says."""
    position, velocity, load, voltage, temperature = BLOCK.unpack(data)
    return Row(_signed(position, 15), _signed(velocity, 15), _signed(load, 10), voltage, temperature)


def _signed(raw: int, bit: int) -> int:
    magnitude: int = raw & ((1 << bit) - 1)
    return -magnitude if raw >> bit & 1 else magnitude


FEETECH = Vendor(
    name="feetech",
    sdk=scservo_sdk,
    port=Port,
    protocol=0,
    registers=REGISTERS,
    models={777: Model("STS3215", load_full=1000.0, top_counts_s=3600.0)},
    bauds={1_000_000: 0, 500_000: 1, 250_000: 2, 128_000: 3, 115_200: 4, 57_600: 5, 38_400: 6, 19_200: 7},
    status=receive,
    block_at=REGISTERS["present_position"].address,
    block_size=BLOCK.size,
    unpack=unpack,
    firmware=lambda get: f"{get('firmware_major')}.{get('firmware_minor')}",
    homing_sign=-1,
    velocity_counts_s=1.0,
    torque_full=1000,
    alarms={1: "voltage", 2: "sensor", 4: "temperature", 8: "current", 32: "overload"},
    error_alarms=0x7F,
    strain=0.75,  # it gives up above its overload_torque, after its protection_time: those of the factory
    settled={"operating_mode": 0, "overload_torque": 80, "protection_time": 200},
    # Some are delivered with positions that go on beyond a turn (huggingface/lerobot, pull request 3373).
    cleared={"phase": 0x10},
)

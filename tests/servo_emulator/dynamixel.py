"""Dynamixel X servos and protocol 2.0, read from ROBOTIS' e-manual and not from the SDK.

emanual.robotis.com/docs/en/dxl/protocol2, .../dxl/x/xl430-w250, .../dxl/x/xl330-m288 and the pages they include: the
control tables with initial values, ranges and units, homing offset, shutdown, bus watchdog, torque enable.
"""

from __future__ import annotations

import math
import struct
import time

from tests.servo_emulator.registers import Memory, Register, Table
from tests.servo_emulator.servo import COUNTS_A_RAD, COUNTS_A_TURN, Journal, Kind, Servo

# No-load speed and stall torque of the e-manual's specifications: 61 rev/min and 1.5 N m at 12 V, 103 and 0.52 at 5 V.
XL430 = Kind("XL430-W250", 1060, 1.5, 61 * 2 * math.pi / 60, 120.0, 12.0, 1.4)
XL330 = Kind("XL330-M288", 1200, 0.52, 103 * 2 * math.pi / 60, 120.0, 5.0, 1.47)

BAUDS = (9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000)
VELOCITY_UNIT = 0.229 * 2 * math.pi / 60  # rad/s
ACCELERATION_UNIT = 214.577 * 2 * math.pi / 3600  # rad/s²
POSITION, EXTENDED, CURRENT_BASED = 3, 4, 5  # operating modes that turn to a goal position
HOMING_REACH = 1024  # in position mode; "any invalid Homing Offset values will be ignored"
VOLTAGE, OVERHEATING, OVERLOAD = 1, 4, 32  # bits of the hardware error status and of shutdown
INSTRUCTION_ERROR, RANGE_ERROR, LENGTH_ERROR, LIMIT_ERROR, ACCESS_ERROR, ALERT = 2, 4, 5, 6, 7, 0x80
WATCHDOG_UNIT_S = 0.02
WATCHDOG_ERROR = -1
OVERLOAD_LOAD, OVERLOAD_S = 0.98, 2.0  # "persistent load that exceeds maximum output"; how long is not documented
_SENSED = struct.Struct("<H?BhhiiiiHB")  # realtime_tick to present_temperature, as they stand in the table
GOALS = ("goal_pwm", "goal_current", "goal_velocity", "goal_position")


def _table(kind: Kind) -> Table:
    small = kind is XL330
    rows = [
        Register("model_number", 0, 2, kind.model, writable=False),
        Register("model_information", 2, 4, 0, writable=False),
        Register("firmware", 6, 1, 50 if small else 45, writable=False),
        Register("id", 7, 1, 1, low=0, high=252),
        Register("baud_rate", 8, 1, 1, low=0, high=6 if small else 7),
        Register("return_delay", 9, 1, 250, low=0, high=254),
        Register("drive_mode", 10, 1, 0, low=0, high=13),
        Register("operating_mode", 11, 1, 3, low=0, high=16),
        Register("secondary_id", 12, 1, 255, low=0, high=255),
        Register("protocol_type", 13, 1, 2, low=2 if small else 1, high=22 if small else 2),
        Register("homing_offset", 20, 4, 0, low=-1_044_479, high=1_044_479, signed=True),
        Register("moving_threshold", 24, 4, 10, low=0, high=1023),
        Register("temperature_limit", 31, 1, 70 if small else 72, low=0, high=100),
        Register("max_voltage", 32, 2, 70 if small else 140, low=31 if small else 60, high=70 if small else 140),
        Register("min_voltage", 34, 2, 35 if small else 60, low=31 if small else 60, high=70 if small else 140),
        Register("pwm_limit", 36, 2, 885, low=0, high=885),
        Register("velocity_limit", 44, 4, 445 if small else 265, low=0, high=2047 if small else 1023),
        Register("max_position", 48, 4, 4095, low=0, high=4095),
        Register("min_position", 52, 4, 0, low=0, high=4095),
        Register("startup_configuration", 60, 1, 0, low=0, high=3),
        Register("shutdown", 63, 1, 53 if small else 52, low=0, high=63),
        Register("torque_enable", 64, 1, 0, low=0, high=1),
        Register("led", 65, 1, 0, low=0, high=1),
        Register("status_return_level", 68, 1, 2, low=0, high=2),
        Register("registered_instruction", 69, 1, writable=False),
        Register("hardware_error", 70, 1, writable=False),
        Register("velocity_i_gain", 76, 2, 1600 if small else 1000, low=0, high=16383),
        Register("velocity_p_gain", 78, 2, 180 if small else 100, low=0, high=16383),
        Register("position_d_gain", 80, 2, 0 if small else 4000, low=0, high=16383),
        Register("position_i_gain", 82, 2, 0, low=0, high=16383),
        Register("position_p_gain", 84, 2, 400 if small else 640, low=0, high=16383),
        Register("feedforward_2nd_gain", 88, 2, 0, low=0, high=16383),
        Register("feedforward_1st_gain", 90, 2, 0, low=0, high=16383),
        Register("bus_watchdog", 98, 1, 0, low=0, high=127, signed=True),
        Register("goal_pwm", 100, 2, 885, signed=True),
        Register("goal_velocity", 104, 4, 0, signed=True),
        Register("profile_acceleration", 108, 4, 0, low=0, high=32767),
        Register("profile_velocity", 112, 4, 0, low=0, high=32767),
        Register("goal_position", 116, 4, 0, signed=True),
        Register("realtime_tick", 120, 2, writable=False),
        Register("moving", 122, 1, writable=False),
        Register("moving_status", 123, 1, writable=False),
        Register("present_pwm", 124, 2, writable=False, signed=True),
        # XL330 shows its current in mA here, XL430 its load in 0.1 %
        Register("present_current" if small else "present_load", 126, 2, writable=False, signed=True),
        Register("present_velocity", 128, 4, writable=False, signed=True),
        Register("present_position", 132, 4, writable=False, signed=True),
        Register("velocity_trajectory", 136, 4, writable=False, signed=True),
        Register("position_trajectory", 140, 4, writable=False, signed=True),
        Register("present_voltage", 144, 2, writable=False),
        Register("present_temperature", 146, 1, writable=False),
        Register("backup_ready", 147, 1, writable=False),
    ]
    if small:
        rows += [
            Register("current_limit", 38, 2, 1750, low=0, high=1750),
            Register("pwm_slope", 62, 1, 140, low=1, high=255),
            Register("goal_current", 102, 2, 1750, signed=True),
        ]
    return Table(rows, size=148, eeprom_end=64)


TABLES = {kind.name: _table(kind) for kind in (XL430, XL330)}


class DynamixelX(Servo):
    """An XL430-W250 or XL330-M288 in a position mode; torque holds where it comes on, whatever was written before."""

    def __init__(self, joint: str, kind: Kind, journal: Journal, *, raw_zero: float, **factory: int) -> None:
        self.heard = time.monotonic()  # the last good packet, for the watchdog
        self._turns = 0  # whole turns that the multi-turn count began with
        self._pending: tuple[int, bytes] | None = None
        super().__init__(joint, kind, Memory(TABLES[kind.name], **factory), journal, raw_zero=raw_zero)

    def present_float(self) -> float:
        """Return counts after homing: Present = Actual + Homing, of one turn in position mode."""
        actual = self.raw_zero + self.q_rad * COUNTS_A_RAD
        if self._mode == POSITION:
            return actual % COUNTS_A_TURN + (self._homing if abs(self._homing) <= HOMING_REACH else 0)
        return actual - self._turns * COUNTS_A_TURN + self._homing

    @property
    def error(self) -> int:
        """Return the alert bit of the status packets."""
        return ALERT if self.memory.get("hardware_error") else 0

    @property
    def firmware(self) -> str:
        """Return the version's one number."""
        return str(self.memory.get("firmware"))

    def power_on(self) -> None:
        """Begin again from the EEPROM, limp; the count is of one turn again."""
        self.memory.power_on()
        self._turns = math.floor((self.raw_zero + self.q_rad * COUNTS_A_RAD) / COUNTS_A_TURN)
        self._pending, self.goal_count, self.overloaded_s = None, None, 0.0
        self.refresh()

    def refresh(self) -> None:
        """Take torque, speed, acceleration and torque limit from the registers."""
        get, mode = self.memory.get, self.memory.get("operating_mode")
        self.id, self.baud = get("id"), BAUDS[get("baud_rate") & 7]
        self.delay_s = get("return_delay") * 2e-6
        self._mode, self._homing, self._shutdown = mode, get("homing_offset"), get("shutdown")
        self._watchdog_s = get("bus_watchdog") * WATCHDOG_UNIT_S
        self._volts, self._hot_c = (get("min_voltage") / 10, get("max_voltage") / 10), get("temperature_limit")
        self.torque = get("torque_enable") == 1 and mode in (POSITION, EXTENDED, CURRENT_BASED)
        speed, ramp = get("profile_velocity") * VELOCITY_UNIT, get("profile_acceleration") * ACCELERATION_UNIT
        self.speed_rad_s = min(speed or math.inf, self.kind.free_rad_s)
        self.ramp_rad_s2 = min(ramp or math.inf, self.kind.ramp_rad_s2)
        self.strength = min(abs(get("goal_pwm")), get("pwm_limit")) / 885
        if mode == CURRENT_BASED and self.kind is XL330:
            stall_ma = self.kind.stall_a * 1000
            self.strength = min(self.strength, abs(get("goal_current")) / stall_ma)

    def read(self, address: int, length: int) -> tuple[int, bytes]:
        """Return an error number, and the registers as they are now where it is 0."""
        if address + length > self.memory.table.size:
            return ACCESS_ERROR, b""
        self._publish()
        return 0, self.memory.read(address, length)

    def write(self, address: int, data: bytes) -> int:
        """Write registers if all of them may be written, and return the error number, 0 if they were."""
        table = self.memory.table
        if table.by_address.get(address) is None:
            return ACCESS_ERROR
        values, at = [], address
        while at < address + len(data):
            register = table.by_address.get(at)
            if register is None:  # a gap of the table, inside a longer write
                at += 1
                continue
            if at + register.size > address + len(data):
                return LENGTH_ERROR
            value = register.decode(data[at - address : at - address + register.size])
            if error := self._refuses(register, value):
                return error
            values.append((register, value))
            at += register.size
        for register, value in values:
            self._take(register, value)
        self.refresh()
        return 0

    def defer(self, address: int, data: bytes) -> int:
        """Keep a write for the action instruction."""
        self._pending = (address, data)
        self.memory.set("registered_instruction", 1)
        return 0

    def act(self) -> int:
        """Carry out the write that was kept; without one it is an instruction error."""
        if self._pending is None:
            return INSTRUCTION_ERROR
        pending, self._pending = self._pending, None
        self.memory.set("registered_instruction", 0)
        return self.write(*pending)

    def reboot(self) -> int:
        """Begin again as after power-on, errors forgotten."""
        self.power_on()
        return 0

    def protect(self, dt_s: float) -> None:
        """Stop when the bus has been silent for too long; shut down on what shutdown(63) lists, until a reboot."""
        if self.torque and self._watchdog_s > 0 and time.monotonic() - self.heard > self._watchdog_s:
            self.memory.set("bus_watchdog", WATCHDOG_ERROR)
            self.halt()
            self.refresh()
        low_v, high_v = self._volts
        errors = VOLTAGE if not low_v <= self.voltage_v <= high_v else 0
        errors |= OVERHEATING if self.temperature_c > self._hot_c else 0
        heavy = self.torque and abs(self.load) >= OVERLOAD_LOAD
        self.overloaded_s = self.overloaded_s + dt_s if heavy else 0.0
        errors |= OVERLOAD if self.overloaded_s > OVERLOAD_S else 0
        if errors & self._shutdown & ~self.memory.get("hardware_error"):
            self.memory.set("hardware_error", self.memory.get("hardware_error") | errors & self._shutdown)
            self.memory.set("torque_enable", 0)
            self.refresh()

    def _refuses(self, register: Register, value: int) -> int:
        get = self.memory.get
        if not register.writable or (register.address < self.memory.table.eeprom_end and get("torque_enable")):
            return ACCESS_ERROR
        if register.name in GOALS and get("bus_watchdog") == WATCHDOG_ERROR:
            return RANGE_ERROR
        if not register.takes(value):
            return RANGE_ERROR
        if register.name == "goal_position":
            low, high = self._limits()
            return 0 if low <= value <= high else LIMIT_ERROR
        if register.name == "goal_pwm" and abs(value) > get("pwm_limit"):
            return LIMIT_ERROR
        if register.name == "goal_current" and abs(value) > get("current_limit"):
            return LIMIT_ERROR
        return 0

    def _limits(self) -> tuple[int, int]:
        if self.memory.get("operating_mode") == POSITION:
            return self.memory.get("min_position"), self.memory.get("max_position")
        return -1_048_575, 1_048_575

    def _take(self, register: Register, value: int) -> None:
        if register.name == "torque_enable":
            if value and self.memory.get("hardware_error"):
                return  # "REBOOT is the only method to reset Torque Enable to 1 after the shutdown"
            if value and not self.memory.get("torque_enable"):
                self.goal_count = None
        self.memory.set(register.name, value)
        if register.address < self.memory.table.eeprom_end:
            self.memory.save(register)
        if register.name == "goal_position":
            self.accept_goal(value, value, *self._limits())

    def _publish(self) -> None:
        put, get = self.memory.set, self.memory.get
        if self.torque:
            put("goal_position", self.present_count() if self.goal_count is None else self.goal_count)
        effort = max(-1.0, min(1.0, self.load))
        sensed = _SENSED.pack(
            time.monotonic_ns() // 1_000_000 % 32768,
            self.torque and abs(self.qd_rad_s) > get("moving_threshold") * VELOCITY_UNIT,
            0,
            round(effort * 885),
            round(effort * (1000 if self.kind is XL430 else self.kind.stall_a * 1000)),
            round(self.qd_rad_s / VELOCITY_UNIT),
            self.present_count(),
            round(self.setpoint_rad_s / VELOCITY_UNIT),
            self.present_count(),
            max(0, round(self.voltage_v * 10)),
            min(255, max(0, round(self.temperature_c))),
        )
        self.memory.write(self.memory.table["realtime_tick"].address, sensed)

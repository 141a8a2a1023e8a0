"""The Feetech STS3215 servo, read from the vendor's memory table and not from the SDK.

Table: addresses, defaults, ranges and units of Feetech's "STS3215 memory table", as copied in SO-Encoder100's list of
registers and in wiki.aifitlab.com/feetech-servo-motor-docs/feetech-sts-servo-memory-table-analysis; addresses checked
against huggingface/lerobot src/lerobot/motors/feetech/tables.py.
"""

from __future__ import annotations

import math
import struct

from tests.servo_emulator.registers import Memory, Register, Table
from tests.servo_emulator.servo import COUNTS_A_RAD, COUNTS_A_TURN, Journal, Kind, Servo

# 0.222 s for 60 degrees without load, 2.7 A stalled at 12 V (Feetech's STS3215-C018); its torque is so101.xml's.
# Acceleration 0 is "as fast as it can": 3.35 N m over the 0.028 kg m² of so101.xml.
STS3215 = Kind("STS3215", 777, 3.35, 4.7, 120.0, 12.0, 2.7)

BAUDS = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
VOLTAGE, TEMPERATURE, OVERLOAD = 1, 4, 32  # bits of the status, the unloading and the LED conditions
CURRENT_UNIT_A = 0.0065
ACCELERATION_UNIT = 100.0  # counts/s²
MOVING_COUNTS_S = 5
_SENSED = struct.Struct("<HHHBBBB?xxH")  # present_position to present_current, as they stand in the table
MANY_TURNS = 16  # bit of phase: seen by LeRobot's users in servos as delivered (its pull request 3373)
MIDDLE = 128  # written to the torque switch: "here is 2048"

TABLE = Table(
    [
        Register("firmware_major", 0, 1, 3, writable=False),
        Register("firmware_minor", 1, 1, 10, writable=False),
        Register("end", 2, 1, 0, writable=False),
        Register("model_number", 3, 2, 777, writable=False),
        Register("id", 5, 1, 1, low=0, high=253),
        Register("baud_rate", 6, 1, 0, low=0, high=7),
        # 0 in the table; LeRobot's feetech.py found servos delivered with 250, which is the harder case
        Register("return_delay", 7, 1, 250, low=0, high=254),
        Register("status_level", 8, 1, 1, low=0, high=1),
        Register("min_position", 9, 2, 0, low=0, high=4094),
        Register("max_position", 11, 2, 4095, low=0, high=4095),
        Register("max_temperature", 13, 1, 70, low=0, high=100),
        Register("max_voltage", 14, 1, 140, low=0, high=254),  # 80 in the 7.4 V version
        Register("min_voltage", 15, 1, 40, low=0, high=254),
        Register("max_torque", 16, 2, 1000, low=0, high=1000),
        Register("phase", 18, 1, 12, low=0, high=254),
        Register("unloading_condition", 19, 1, 44, low=0, high=254),
        Register("led_condition", 20, 1, 47, low=0, high=254),
        Register("p_gain", 21, 1, 32, low=0, high=254),
        Register("d_gain", 22, 1, 32, low=0, high=254),
        Register("i_gain", 23, 1, 0, low=0, high=254),
        Register("minimum_startup_force", 24, 2, 16, low=0, high=1000),
        Register("cw_dead_zone", 26, 1, 1, low=0, high=32),
        Register("ccw_dead_zone", 27, 1, 1, low=0, high=32),
        Register("protection_current", 28, 2, 500, low=0, high=511),
        Register("angular_resolution", 30, 1, 1, low=1, high=3),
        Register("homing_offset", 31, 2, 0, low=-2047, high=2047, sign_bit=11),
        Register("operating_mode", 33, 1, 0, low=0, high=3),
        Register("protective_torque", 34, 1, 20, low=0, high=100),
        Register("protection_time", 35, 1, 200, low=0, high=254),  # 10 ms
        Register("overload_torque", 36, 1, 80, low=0, high=100),
        Register("velocity_p_gain", 37, 1, 10, low=0, high=100),
        Register("over_current_time", 38, 1, 200, low=0, high=254),
        Register("velocity_i_gain", 39, 1, 10, low=0, high=254),
        Register("torque_enable", 40, 1, 0),
        Register("acceleration", 41, 1, 0, low=0, high=254),
        Register("goal_position", 42, 2, 0, low=-30719, high=30719, sign_bit=15),
        Register("goal_time", 44, 2, 0, sign_bit=10),
        Register("goal_velocity", 46, 2, 0, low=-3400, high=3400, sign_bit=15),
        Register("torque_limit", 48, 2, 1000, low=0, high=1000),
        Register("lock", 55, 1, 1, low=0, high=1),
        Register("present_position", 56, 2, writable=False, sign_bit=15),
        Register("present_velocity", 58, 2, writable=False, sign_bit=15),
        Register("present_load", 60, 2, writable=False, sign_bit=10),
        Register("present_voltage", 62, 1, writable=False),
        Register("present_temperature", 63, 1, writable=False),
        Register("async_write", 64, 1, writable=False),
        Register("status", 65, 1, writable=False),
        Register("moving", 66, 1, writable=False),
        Register("present_current", 69, 2, writable=False, sign_bit=15),
        Register("moving_threshold", 80, 1, 1, writable=False),
        Register("maximum_velocity", 84, 1, 68, writable=False),
        Register("maximum_acceleration", 85, 1, 254, writable=False),
    ],
    size=128,
    eeprom_end=40,
)


class Sts3215(Servo):
    """An STS3215 in position mode.

    Where the vendor says nothing, the reading that asks more of a driver is taken: the lock is on after power-on, and
    torque moves the joint to a goal that was written before it came on.
    """

    memory: Memory

    def __init__(self, joint: str, journal: Journal, *, raw_zero: float, **factory: int) -> None:
        self._status = 0
        self._pending: tuple[int, bytes] | None = None
        super().__init__(joint, STS3215, Memory(TABLE, **factory), journal, raw_zero=raw_zero)

    def present_float(self) -> float:
        """Return counts after homing: Present = Actual - Homing, of one turn, or on beyond it where phase says so."""
        counts = self.raw_zero + self.q_rad * COUNTS_A_RAD - self._homing
        return counts if self._many_turns else counts % COUNTS_A_TURN

    def present_count(self) -> int:
        """Return the present position as the register shows it."""
        count = round(self.present_float())
        return count if self._many_turns else count % COUNTS_A_TURN

    @property
    def status(self) -> int:
        """Return the alarm bits that go with every reply."""
        return self._status

    @property
    def firmware(self) -> str:
        """Return major and minor version."""
        return f"{self.memory.get('firmware_major')}.{self.memory.get('firmware_minor')}"

    def power_on(self) -> None:
        """Begin again from the EEPROM, limp."""
        self.memory.power_on()
        self.memory.set("torque_limit", self.memory.get("max_torque"))
        self._status, self._pending, self.goal_count, self.overloaded_s = 0, None, None, 0.0
        self.refresh()

    def refresh(self) -> None:
        """Take torque, speed, acceleration and torque limit from the registers."""
        get = self.memory.get
        self.id, self.baud = get("id"), BAUDS[get("baud_rate") & 7]
        self._many_turns = bool(get("phase") & MANY_TURNS)
        self._homing, self.delay_s = get("homing_offset"), get("return_delay") * 2e-6
        self._volts, self._hot_c = (get("min_voltage") / 10, get("max_voltage") / 10), get("max_temperature")
        self._heavy, self._patience_s = get("overload_torque") / 100, get("protection_time") / 100
        self.torque = get("torque_enable") == 1 and get("operating_mode") == 0
        speed, ramp = abs(get("goal_velocity")) / COUNTS_A_RAD, get("acceleration") * ACCELERATION_UNIT / COUNTS_A_RAD
        self.speed_rad_s = min(speed or math.inf, self.kind.free_rad_s)
        self.ramp_rad_s2 = min(ramp or math.inf, self.kind.ramp_rad_s2)
        share = min(get("torque_limit"), get("max_torque")) / 1000
        self.strength = share * (get("protective_torque") / 100 if self._unloads(OVERLOAD) else 1.0)

    # -- what the bus asks

    def read(self, address: int, length: int) -> bytes:
        """Return registers as they are now."""
        self._publish()
        return self.memory.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        """Write registers; what may not be written, or is out of its range, stays as it is and is not reported."""
        for register in TABLE.within(address, len(data)):
            at = register.address - address
            value = register.decode(data[at : at + register.size])
            if register.name == "torque_enable" and value == MIDDLE:
                self._home_here()
            elif register.writable and (register.takes(value) or register.name == "goal_position"):
                self.memory.set(register.name, value)
                self.refresh()
                self._wrote(register, value)
        self.refresh()

    def defer(self, address: int, data: bytes) -> None:
        """Keep a write for the action instruction."""
        self._pending = (address, data)

    def act(self) -> None:
        """Carry out the write that was kept."""
        if self._pending is not None:
            self.write(*self._pending)
            self._pending = None

    def protect(self, dt_s: float) -> None:
        """Raise and act on alarms; voltage and heat mend themselves, an overload stays until torque is set again."""
        status = self._status & OVERLOAD
        low_v, high_v = self._volts
        status |= VOLTAGE if not low_v <= self.voltage_v <= high_v else 0
        status |= TEMPERATURE if self.temperature_c > self._hot_c else 0
        heavy = self.torque and abs(self.load) >= self._heavy
        self.overloaded_s = self.overloaded_s + dt_s if heavy else 0.0
        if self.overloaded_s > self._patience_s:
            status |= OVERLOAD
        if status != self._status:
            self._status = status
            if self._unloads(TEMPERATURE) or self._unloads(VOLTAGE):
                self.memory.set("torque_enable", 0)
            self.refresh()

    def _unloads(self, bit: int) -> bool:
        return bool(self._status & self.memory.get("unloading_condition") & bit)

    def _wrote(self, register: Register, value: int) -> None:
        if register.address < TABLE.eeprom_end and self.memory.get("lock") == 0:
            # "Writing 1 prevents values written to the EPROM address from being saved after power loss."
            self.memory.save(register)
        if register.name == "torque_enable":
            self._status &= ~OVERLOAD
            self.overloaded_s = 0.0
        if register.name == "goal_position":
            low, high = self.memory.get("min_position"), self.memory.get("max_position")
            taken = value if low == high == 0 else min(max(value, low), high)
            self.accept_goal(value, taken, low, high)

    def _home_here(self) -> None:
        actual = round(self.raw_zero + self.q_rad * COUNTS_A_RAD) % COUNTS_A_TURN
        self.memory.set("homing_offset", (actual - 2048 + 2047) % COUNTS_A_TURN - 2047)
        self.memory.save(TABLE["homing_offset"])

    def _publish(self) -> None:
        load, current = self.load, self.load * self.kind.stall_a / CURRENT_UNIT_A
        sensed = _SENSED.pack(
            _signed(self.present_count(), 15),
            _signed(self.qd_rad_s * COUNTS_A_RAD, 15),
            _signed(max(-1.0, min(1.0, load)) * 1000, 10),
            min(255, max(0, round(self.voltage_v * 10))),
            min(255, max(0, round(self.temperature_c))),
            self._pending is not None,
            self._status,
            self.torque and abs(self.qd_rad_s) * COUNTS_A_RAD > MOVING_COUNTS_S,
            _signed(current, 15),
        )
        self.memory.write(TABLE["present_position"].address, sensed)


def _signed(value: float, sign_bit: int) -> int:
    """Return sign and magnitude, as the servo writes negative numbers."""
    magnitude = min(round(abs(value)), (1 << sign_bit) - 1)
    return magnitude | (1 << sign_bit if value < 0 and magnitude else 0)

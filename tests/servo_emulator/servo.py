"""One servo's motion, heat and protection: what goes on behind its registers, in physical units."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from tests.servo_emulator.registers import Memory

COUNTS_A_TURN = 4096
COUNTS_A_RAD = COUNTS_A_TURN / (2 * math.pi)
AMBIENT_C = 25.0
STALLED_C = 70.0  # where a servo at its full load ends up
WARMING_S = 120.0  # the time constant of its way there
VOLTAGE_SAG = 0.025  # share of the supply that is lost for each stalled servo
JOURNAL_LENGTH = 200_000


@dataclass(frozen=True)
class Kind:
    """A model of servo: its figures from the data sheet, at the voltage it is run with."""

    name: str
    model: int
    stall_nm: float
    free_rad_s: float  # without load
    ramp_rad_s2: float  # when no acceleration is set
    supply_v: float
    stall_a: float


@dataclass(frozen=True)
class GoalWrite:
    """One goal position that a servo accepted, in counts after homing."""

    time_ns: int
    joint: str
    id: int
    count: int
    present: int
    outside: bool  # beyond the servo's own position limits


@dataclass
class Journal:
    """Every goal that any servo accepted.

    The bus thread adds while another reads: a slice of a list is taken in one go, an iteration over a deque is not.
    """

    goals: list[GoalWrite] = field(default_factory=list)  # the last ones, JOURNAL_LENGTH at least
    written: int = 0
    outside: int = 0
    torque_off: int = 0  # goals written to a limp servo: nothing moves, so they are in no other figure
    ahead_counts: dict[str, int] = field(default_factory=dict)  # the most that a goal was ahead of the joint

    def add(self, goal: GoalWrite, *, torque: bool) -> None:
        """Note a goal and what it asks of the joint."""
        self.goals.append(goal)
        if len(self.goals) >= 2 * JOURNAL_LENGTH:
            del self.goals[:JOURNAL_LENGTH]
        self.written += 1
        self.outside += goal.outside
        self.torque_off += not torque
        if torque:
            ahead = abs(goal.count - goal.present)
            self.ahead_counts[goal.joint] = max(ahead, self.ahead_counts.get(goal.joint, 0))

    def reset(self) -> None:
        """Begin the sums anew; the goals themselves stay."""
        self.written = self.outside = self.torque_off = 0
        self.ahead_counts.clear()


@dataclass
class Trouble:
    """What is wrong with a servo on purpose."""

    dead: bool = False
    load: float | None = None
    temperature_c: float | None = None
    voltage_v: float | None = None


class Servo:
    """A position servo: its vendor's subclass keeps the fields below in step with its registers.

    The bus thread writes registers, the physics thread calls advance: each field is set by one of the two only.
    """

    def __init__(self, joint: str, kind: Kind, memory: Memory, journal: Journal, *, raw_zero: float) -> None:
        self.joint, self.kind, self.memory, self.journal = joint, kind, memory, journal
        self.raw_zero = raw_zero  # what the encoder shows where the joint's angle is zero: how the horn was put on
        self.trouble = Trouble()
        # set by the bus
        self.id, self.baud = 0, 0  # bits a second
        self.torque = False
        self.goal_count: int | None = None  # after homing; None: hold where torque came on
        self.speed_rad_s, self.ramp_rad_s2 = kind.free_rad_s, kind.ramp_rad_s2
        self.strength = 1.0  # share of the stall torque it may use
        # set by the physics
        self.q_rad = self.qd_rad_s = self.load = 0.0
        self.temperature_c, self.voltage_v = AMBIENT_C, kind.supply_v
        self.setpoint_rad = self.setpoint_rad_s = 0.0
        self.held_rad: float | None = None
        self.overloaded_s = 0.0
        self.refresh()

    # -- for the vendor's subclass

    def refresh(self) -> None:
        """Set the fields above from the registers."""
        raise NotImplementedError

    def present_float(self) -> float:
        """Return the joint's position in counts after homing, before rounding."""
        raise NotImplementedError

    def protect(self, dt_s: float) -> None:
        """Look whether the servo must protect itself."""

    def accept_goal(self, asked: int, taken: int, low: int, high: int) -> None:
        """Move towards taken counts from now on, and note what was asked."""
        self.goal_count = taken
        outside = not low <= asked <= high
        write = GoalWrite(time.monotonic_ns(), self.joint, self.id, asked, self.present_count(), outside)
        self.journal.add(write, torque=self.torque)

    @property
    def firmware(self) -> str:
        """Return the firmware's version as people write it."""
        raise NotImplementedError

    def power_on(self) -> None:
        """Begin again with what the EEPROM keeps, limp."""
        raise NotImplementedError

    def present_count(self) -> int:
        """Return the joint's position in counts after homing."""
        return round(self.present_float())

    # -- the physics

    def sense(self, q_rad: float, qd_rad_s: float, torque_nm: float, supply: float) -> None:
        """Take in where the joint is, how fast it turns, how hard the servo pulls, and the share of voltage left."""
        self.q_rad, self.qd_rad_s = q_rad, qd_rad_s
        trouble = self.trouble
        self.load = torque_nm / self.kind.stall_nm if trouble.load is None else trouble.load
        self.voltage_v = self.kind.supply_v * supply if trouble.voltage_v is None else trouble.voltage_v

    def advance(self, dt_s: float) -> float | None:
        """Return the position (rad) that the motor pulls towards for the next dt_s, or None while it is limp."""
        self._warm(dt_s)
        self.protect(dt_s)
        if not self.torque:
            self.held_rad = None
            return None
        if self.held_rad is None:
            self.held_rad = self.setpoint_rad = self.q_rad
            self.setpoint_rad_s = 0.0
        self._follow(self._wanted_rad(), dt_s)
        return self.setpoint_rad

    def halt(self) -> None:
        """Forget the goal and hold where the joint is."""
        self.goal_count = None
        self.held_rad = self.setpoint_rad = self.q_rad
        self.setpoint_rad_s = 0.0

    def _wanted_rad(self) -> float:
        goal = self.goal_count
        if goal is None:
            return self.held_rad if self.held_rad is not None else self.q_rad
        # As the firmware sees it: the error in counts is goal less present, even where the count has wrapped.
        return self.q_rad + (goal - self.present_float()) / COUNTS_A_RAD

    def _follow(self, wanted_rad: float, dt_s: float) -> None:
        """Move the setpoint by one period of a profile with bounded speed and acceleration, braking in time."""
        distance = wanted_rad - self.setpoint_rad
        ramp = self.ramp_rad_s2
        half = ramp * dt_s / 2
        brake_rad_s = math.sqrt(half * half + 2 * ramp * abs(distance)) - half
        speed = math.copysign(min(brake_rad_s, self.speed_rad_s, abs(distance) / dt_s), distance)
        change = ramp * dt_s
        self.setpoint_rad_s += min(max(speed - self.setpoint_rad_s, -change), change)
        self.setpoint_rad += self.setpoint_rad_s * dt_s

    def _warm(self, dt_s: float) -> None:
        if self.trouble.temperature_c is not None:
            self.temperature_c = self.trouble.temperature_c
            return
        settles_c = AMBIENT_C + (STALLED_C - AMBIENT_C) * min(1.0, self.load * self.load)
        self.temperature_c += (settles_c - self.temperature_c) * min(1.0, dt_s / WARMING_S)

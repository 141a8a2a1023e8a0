"""The arm as it was put together: which servo turns which joint, how its horn sits, and what its EEPROM holds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from envs.scene import JOINTS, Scene
from tests.servo_emulator.dynamixel import XL330, XL430, DynamixelX
from tests.servo_emulator.feetech import Sts3215
from tests.servo_emulator.packets import Dialect
from tests.servo_emulator.protocol2 import Protocol2
from tests.servo_emulator.scs import ScsProtocol
from tests.servo_emulator.servo import COUNTS_A_RAD, COUNTS_A_TURN, Journal, Servo

STATES = ("calibrated", "assembled", "fresh")
MIDDLE = COUNTS_A_TURN // 2  # joint zero after homing


@dataclass(frozen=True)
class Build:
    """One joint's place in the arm."""

    joint: str
    id: int
    raw_zero: int  # what its encoder shows at the joint's zero
    low: int  # the joint's range in counts after homing
    high: int


def build_servos(vendor: str, state: str, seed: int) -> tuple[list[Servo], Dialect, Journal]:
    """Return the servos of an arm in the order of its joints, and the protocol they speak.

    state is calibrated (ids, homing offsets and limits set), assembled (ids set) or fresh (as from the box). The same
    seed puts the horns on in the same places.
    """
    journal = Journal()
    make, dialect = _VENDORS[vendor]
    return [make(build, state, journal) for build in _builds(vendor, seed)], dialect(), journal


def _builds(vendor: str, seed: int) -> list[Build]:
    scene, rng = Scene(), random.Random(seed)
    builds = []
    for index, joint in enumerate(JOINTS):
        low, high = (MIDDLE + round(float(r[index]) * COUNTS_A_RAD) for r in (scene.low_rad, scene.high_rad))
        # A Feetech horn goes on anywhere; a Dynamixel's is marked, and its homing reaches 1024 counts in position mode.
        raw_zero = rng.randrange(COUNTS_A_TURN) if vendor == "feetech" else MIDDLE + rng.randint(-200, 200)
        builds.append(Build(joint, index + 1, raw_zero, low, high))
    return builds


def _feetech(build: Build, state: str, journal: Journal) -> Servo:
    factory: dict[str, int] = {}
    if state != "fresh":
        factory |= {"id": build.id}
    if state == "calibrated":
        factory |= {"return_delay": 0}
        homing = (build.raw_zero - MIDDLE + MIDDLE) % COUNTS_A_TURN - MIDDLE  # present = actual - homing
        factory |= {"homing_offset": max(homing, 1 - MIDDLE), "min_position": build.low, "max_position": build.high}
    return Sts3215(build.joint, journal, raw_zero=build.raw_zero, **factory)


def _dynamixel(build: Build, state: str, journal: Journal) -> Servo:
    kind = XL430 if build.joint in ("shoulder_pan", "shoulder_lift") else XL330  # as in a Koch v1.1 follower
    factory: dict[str, int] = {}
    if state != "fresh":
        factory |= {"id": build.id, "baud_rate": 3}
    if state == "calibrated":
        factory |= {"return_delay": 0}
        factory |= {"homing_offset": MIDDLE - build.raw_zero, "min_position": build.low, "max_position": build.high}
    return DynamixelX(build.joint, kind, journal, raw_zero=build.raw_zero, **factory)


_VENDORS: dict[str, tuple[Callable[[Build, str, Journal], Servo], Callable[[], Dialect]]] = {
    "feetech": (_feetech, ScsProtocol),
    "dynamixel": (_dynamixel, Protocol2),
}
VENDORS = tuple(_VENDORS)

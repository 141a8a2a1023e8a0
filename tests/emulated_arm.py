"""An emulated arm made into a robot: its calibration as the servos have it, and what its emulator says happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from embodied.hardware.arm import ArmModel
from embodied.realtime import RealTimeRobot
from embodied.robots import koch, so101
from embodied.types import PoseAction
from tests.servo_emulator.process import Emulator

ROBOTS: dict[str, Any] = {"so101": so101, "koch": koch}
VENDORS = {"so101": "feetech", "koch": "dynamixel"}
RAD = 2 * np.pi / 4096


@contextmanager
def opened(name: str, emulated: Emulator, folder: Path, **options: Any) -> Iterator[RealTimeRobot]:
    """Open the robot of a module on an emulated arm, without cameras and stage unless told otherwise."""
    module = ROBOTS[name]
    path = folder / f"{name}.json"
    if not path.exists():
        emulated.calibration(path)
    options = {"port": emulated.port, "calibration": str(path), "stage": "none"} | options
    if name == "so101":
        options = {"cameras": {}} | options
    robot = module.make(**options)
    try:
        yield robot
    finally:
        robot.close()


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait for what another process or thread brings about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def pose(arm: ArmModel, **joints: float) -> PoseAction:
    """Return home, but for these joints, rad."""
    return PoseAction(np.array([joints.get(n, h) for n, h in zip(arm.names, arm.home_rad, strict=True)], np.float32))


def travelled(before: dict[str, float], after: dict[str, float]) -> np.ndarray:
    """Return how far each joint went (n,), rad."""
    return np.abs(np.array(list(after.values())) - np.array(list(before.values())))

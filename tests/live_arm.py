"""The live robot in real time, as an arm that stands beside the rollout: `embodied rollout --robot tests.live_arm`."""

from __future__ import annotations

import os

from embodied.realtime import RealTimeRobot
from tests import live_robot


def make(folder: str) -> RealTimeRobot:
    """Make the robot, so that this file is a robot module; its evidence is in folder, by the process that it is in."""
    return RealTimeRobot(lambda: live_robot.make(f"{folder}/{os.getpid()}"))

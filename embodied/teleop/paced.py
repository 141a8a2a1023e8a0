"""A robot in lock step at the pace of the wall clock, so that a person can drive it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

from embodied.pace import Pace
from embodied.stages import WAIT
from embodied.types import Action, Observation, Robot, RobotSpec, Step


class PacedRobot:
    """Begins an action no sooner than a control period after the one before; a robot that is slower stays slower."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._pace = Pace(1 / robot.spec.control_hz)

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._robot.spec

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode, and its time."""
        observation = self._robot.reset(seed, task)
        self._pace.begin()
        return observation

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions, the first when its period has come."""
        began_ns = time.monotonic_ns()
        self._pace.wait()
        waited_ns = time.monotonic_ns() - began_ns
        step = self._robot.step(*actions, frames=frames)
        return replace(step, timing_ns=dict(Counter(step.timing_ns) + Counter({WAIT: waited_ns})))

    def stop(self) -> None:
        """Come to a controlled stop."""
        self._robot.stop()

    def close(self) -> None:
        """Close the robot."""
        self._robot.close()


def paced(robot: Robot) -> Robot:
    """Return a robot whose time passes: itself where it does already."""
    return robot if robot.spec.realtime else PacedRobot(robot)

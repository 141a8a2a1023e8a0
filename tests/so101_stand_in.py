"""A robot with the SO-101's joints that needs no simulator: it goes where it is told, a tenth of a radian at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from embodied.robots.so101 import ARM
from embodied.safety import SafeRobot
from embodied.types import Camera, Limits, Observation, Step
from tests.toy_world import ToyRobot


class StandIn(ToyRobot):
    def __init__(self) -> None:
        super().__init__(16, -1)
        self.spec = replace(ARM.spec(), cameras=(Camera("front", 16, 16, 45.0),), limits=Limits())

    def reset(self, seed: int, task: str) -> Observation:
        super().reset(seed, task)
        self.target = np.full(6, np.inf, np.float32)  # never a success
        self.state = np.array(ARM.home_rad, np.float32)
        return self._observe()

    def step(self, *actions, frames: bool = True) -> Step:
        return replace(super().step(*actions, frames=frames), truncated=False)


def make() -> SafeRobot[StandIn]:
    return SafeRobot(StandIn())

"""A policy whose chunks depend on what it saw, for tests: `embodied rollout --policy tests.wave_policy`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embodied.types import Action, Observation, PoseAction, RobotSpec


class WavePolicy:
    """Commands a wave that depends on the state, in chunks; remembers what it was asked."""

    def __init__(self, chunk: int = 6, reach: float = 1.0, thinks_s: float = 0.0) -> None:
        self.chunk, self.reach, self.thinks_s = chunk, reach, thinks_s
        self.asked: list[Observation] = []

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self.instruction = instruction

    def act(self, observation: Observation) -> Sequence[Action]:
        self.asked.append(observation)
        time.sleep(self.thinks_s)
        phase = observation.state[-1] + np.arange(self.chunk, dtype=np.float32)[:, None] / 10
        return [PoseAction(values) for values in self.reach * np.sin(observation.state[:3] + 3 * phase)]


def make(checkpoint: Path | None = None, *, chunk: int = 6, reach: float = 1.0, thinks_s: float = 0.0) -> WavePolicy:
    """Make the policy, so that this file is a policy module."""
    return WavePolicy(chunk, reach, thinks_s)

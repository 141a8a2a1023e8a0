"""A policy that sweeps the live robot to and fro, for `embodied rollout --policy tests.faults.sweeper`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embodied.types import Action, Observation, RobotSpec
from tests.live_robot import sweep

CHUNK = 5


class Sweeper:
    """Counts what it has commanded since the episode began, and goes on from there."""

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self._control_hz, self._commanded = spec.control_hz, 0

    def act(self, observation: Observation) -> Sequence[Action]:
        self._commanded += CHUNK
        return sweep(self._control_hz, self._commanded - CHUNK, CHUNK)


def make(checkpoint: Path | None = None) -> Sweeper:
    """Make the policy, so that this file is a policy module."""
    return Sweeper()

"""A policy that sweeps the live robot to and fro, for `embodied rollout --policy tests.faults.sweeper`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from embodied.types import Action, Observation, RobotSpec
from tests.live_robot import sweep

CHUNK = 5


class Sweeper:
    """Counts what it has commanded since the episode began, and goes on from there.

    Of all that are told of one file, `fails`, the first removes it and fails after a chunk of the usual length.
    """

    def __init__(self, chunk: int = CHUNK, fails: str = "") -> None:
        self._chunk, self._fails, self._failing = chunk, fails, False

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self._control_hz, self._commanded = spec.control_hz, 0

    def act(self, observation: Observation) -> Sequence[Action]:
        if self._failing:
            raise RuntimeError("it has failed, as it was to")
        if self._fails:
            with suppress(FileNotFoundError):
                Path(self._fails).unlink()
                self._chunk, self._failing = CHUNK, True
        self._commanded += self._chunk
        return sweep(self._control_hz, self._commanded - self._chunk, self._chunk)


def make(checkpoint: Path | None = None, *, chunk: int = CHUNK, fails: str = "") -> Sweeper:
    """Make the policy, so that this file is a policy module."""
    return Sweeper(chunk, fails)

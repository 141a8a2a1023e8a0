"""A policy of chance: the floor that any success must rise above, beside that of staying put."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embodied.errors import EmbodiedError, ProtocolError
from embodied.types import Action, Observation, PoseAction, RobotSpec


class RandomPolicy:
    """Draws every field of an action from its whole range, evenly.

    The first observation of an episode decides all of its draws, so that an episode goes the same way whoever runs it.
    """

    def __init__(self, horizon: int = 1, seed: int = 0) -> None:
        """Hand out so many steps at a time; raise EmbodiedError for less than one, or a negative seed."""
        if horizon < 1 or seed < 0:
            raise EmbodiedError(f"horizon is at least 1 and seed at least 0, got {horizon} and {seed}")
        self._horizon, self._seed = horizon, seed
        self._spec: RobotSpec | None = None

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode."""
        self._spec, self._instruction = spec, instruction
        self._rng: np.random.Generator | None = None

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next horizon actions."""
        if self._spec is None:
            raise ProtocolError("act before reset: begin an episode first")
        self._spec.check_observation(observation)
        if self._rng is None:
            self._rng = np.random.default_rng([self._seed, _digest(self._instruction, observation)])
        low, high = (np.array([getattr(f, end) for f in self._spec.action]) for end in ("low", "high"))
        drawn = self._rng.uniform(low, high, (self._horizon, len(low))).astype(np.float32)
        return [PoseAction(values) for values in drawn]


def _digest(instruction: str, observation: Observation) -> int:
    parts = [instruction.encode(), observation.state.tobytes()]
    parts += [frame.tobytes() for _, frame in sorted(observation.frames.items())]
    return int.from_bytes(hashlib.sha256(b"|".join(parts)).digest()[:8], "little")


def make(checkpoint: Path | None = None, horizon: int = 1, seed: int = 0) -> RandomPolicy:
    """Return the policy; there is nothing to load, so a checkpoint is refused."""
    if checkpoint is not None:
        raise EmbodiedError(f"policies.random learns nothing and takes no checkpoint, got {checkpoint}")
    return RandomPolicy(horizon, seed)

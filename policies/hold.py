"""A policy that stays where it is: the floor of every comparison, and a smoke test of any robot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embodied.errors import EmbodiedError, ProtocolError
from embodied.holding import hold_measured, require_holdable
from embodied.types import Action, Observation, RobotSpec


class HoldPolicy:
    """Commands the measured position: each absolute action field takes the state field of its name, a delta is zero."""

    def __init__(self, trained_for: RobotSpec | None = None) -> None:
        """Hold trained_for and refuse any other robot, or, without it, hold any robot that can be held."""
        self._trained_for = trained_for
        self._spec: RobotSpec | None = None

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; raise SpecMismatchError for another robot, or where an action field has no state field."""
        if self._trained_for is not None:
            self._trained_for.require_same(spec, expected="this hold policy")
        require_holdable(spec, "the hold policy")
        self._spec = spec

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return one action that stays put; raise InvalidObservationError for what does not fit the spec."""
        if self._spec is None:
            raise ProtocolError("act before reset: begin an episode first")
        self._spec.check_observation(observation)
        return [hold_measured(self._spec, observation)]


def make(checkpoint: Path | None = None) -> HoldPolicy:
    """Make the policy; raise EmbodiedError for a checkpoint, since it has nothing to learn."""
    if checkpoint is not None:
        raise EmbodiedError(f"policies.hold takes no checkpoint, got {checkpoint}")
    return HoldPolicy()

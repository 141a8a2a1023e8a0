"""Drives a robot by a leader arm: a person moves one arm, whose servos are limp, and the other follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodied.approach import is_near, ranges, towards
from embodied.errors import SpecMismatchError
from embodied.holding import hold_measured, require_holdable
from embodied.teleop.console import Console
from embodied.teleop.operator import Command
from embodied.types import Action, Observation, PoseAction, RobotSpec

Array = NDArray[np.float64]

REACHING = 0.03  # of a field's range: a leader moved as far from where it stood wants to take over


class Leader(Protocol):
    """An arm that is moved by hand."""

    @property
    def names(self) -> Sequence[str]:
        """Return the names of its joints."""

    def read(self) -> Mapping[str, float]:
        """Return where its joints are, by name, in rad; raise HardwareError where it does not answer."""

    def close(self) -> None:
        """Let go of it; idempotent."""


class LeaderTeleoperator:
    """Sends the follower where the leader is; the two may be far apart at first, so the way there is slow."""

    def __init__(self, leader: Leader, console: Console) -> None:
        self._leader, self._console = leader, console
        self._ready = False
        self._at: Array | None = None  # what was last commanded
        self._stood: Array | None = None  # where the leader was, first looked at

    @property
    def legend(self) -> Sequence[str]:
        """Return lines that say how to drive."""
        return ("move the leader: the follower comes to its pose slowly, then goes where it goes",)

    @property
    def buttons(self) -> Mapping[str, Command]:
        """Return none: an arm has no buttons."""
        return {}

    @property
    def ready(self) -> bool:
        """Whether the follower has come to the leader's pose."""
        return self._ready

    @property
    def reaching(self) -> bool:
        """Whether the leader was moved since the last reset."""
        now = self._pose()
        if self._stood is None:
            self._stood = now
        return bool((np.abs(now - self._stood) > REACHING * ranges(self._spec)).any())

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin; raise SpecMismatchError, naming the fields, where the follower has some that the leader has not."""
        require_holdable(spec, "a leader arm")
        lacking = [
            f"action.{f.name}: {f.mode} {f.unit}; the leader has {list(self._leader.names)}, in rad"
            for f in spec.action
            if f.name not in self._leader.names or (f.unit, f.mode) != ("rad", "absolute")
        ]
        if lacking:
            raise SpecMismatchError("the leader arm", f"robot {spec.name!r}", lacking)
        self._spec, self._ready = spec, False
        self._at = self._stood = None

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the leader's pose, or while the follower is far from it the next on a slow way there."""
        goal = self._pose()
        if self._at is None:
            self._at = hold_measured(self._spec, observation).values.astype(np.float64)
            self._console.terminal.say("the follower comes slowly to the leader's pose; keep clear, and hold it still")
        if self._ready:
            self._at = goal
        else:
            self._at = towards(self._spec, self._at, goal)
            if is_near(self._spec, self._at, goal):
                self._ready = True
                self._console.terminal.say("the follower is there, and follows")
        return [PoseAction(self._at.astype(np.float32))]

    def commands(self) -> Sequence[Command]:
        """Return nothing: an arm has no buttons."""
        return ()

    def close(self) -> None:
        """Let go of the leader; idempotent."""
        self._leader.close()

    def _pose(self) -> Array:
        """Return where the leader is (n,), in the order of the follower's fields and within their ranges.

        A leader's joints go as far as its own stops, a follower's as far as its calibration says: the end of a range
        is meant by whatever lies beyond it.
        """
        there = self._leader.read()
        return np.array([min(max(there[f.name], f.low), f.high) for f in self._spec.action])

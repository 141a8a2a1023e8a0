"""Jogging: a pose that a person moves joint by joint, or tool first, at the speed of their choice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embodied.holding import hold_measured, require_holdable
from embodied.types import Observation, PoseAction, RobotSpec

Array = NDArray[np.float64]
# From values (n,) of the action fields: values near them, with which the tool is (3,) m further in the base frame.
Nudge = Callable[[Array, Array], Array]

SPEEDS = (0.02, 0.05, 0.1, 0.2, 0.4)  # of a field's range, or of REACH_M, in a second
FIRST_SPEED = 2
GRIPPER_HASTE = 4.0  # a gripper's way is short
REACH_M = 0.8  # across the workspace of a desktop arm
LEASH = 0.1  # of a field's range: a goal further from the measured pose waits for a robot that is held up


class Jog:
    """The pose that a robot is sent to, one control period after another."""

    def __init__(self, nudge: Nudge | None = None) -> None:
        """Jog joints, and with nudge the tool too."""
        self._nudge = nudge
        self._speed = FIRST_SPEED

    @property
    def moves_tool(self) -> bool:
        """Whether the tool can be jogged."""
        return self._nudge is not None

    @property
    def speed(self) -> float:
        """Return the present speed, in shares of a field's range a second."""
        return SPEEDS[self._speed]

    @property
    def at_first_speed(self) -> bool:
        """Whether the speed is that of the beginning."""
        return self._speed == FIRST_SPEED

    def faster(self, levels: int) -> None:
        """Go levels faster, or slower where they are below 0, as far as there are any."""
        self._speed = min(max(self._speed + levels, 0), len(SPEEDS) - 1)

    def begin(self, spec: RobotSpec) -> None:
        """Begin from wherever the robot is at the next pose; raise SpecMismatchError where it does not measure it."""
        require_holdable(spec, "jogging")
        self._spec = spec
        self._low = np.array([f.low for f in spec.action])
        self._high = np.array([f.high for f in spec.action])
        self._delta = np.array([f.mode == "delta" for f in spec.action])
        gripper = np.array([is_gripper(f.name) for f in spec.action])
        span = self._high - self._low
        quickest = span / 2 * spec.control_hz / SPEEDS[-1]  # so that the highest speed is all that a delta can say
        self._haste = np.where(self._delta, quickest, np.where(gripper, GRIPPER_HASTE, 1.0) * span)
        self._leash = np.where(self._delta | gripper, 1.0, LEASH) * span  # a gripper squeezes by its distance
        self._top = np.where(self._delta, np.inf, spec.limits.velocity or np.inf)
        self._goal: Array | None = None

    def pose(self, observation: Observation, joints: Array, tool: Array) -> PoseAction:
        """Return the next pose: joints (n,) and tool (3,) say which way to go for this period, -1 to 1 each."""
        measured = hold_measured(self._spec, observation).values.astype(np.float64)
        goal = measured.copy() if self._goal is None else self._goal
        period_s = 1 / self._spec.control_hz
        change = np.clip(joints * self.speed * self._haste, -self._top, self._top) * period_s
        if self._nudge is not None and tool.any():
            moved = self._nudge(goal, tool * self.speed * REACH_M * period_s) - goal
            # All fields by the same share, so that the tool keeps its direction.
            change += moved * min(1.0, float(np.min(self._top * period_s / np.maximum(np.abs(moved), 1e-9))))
        led = np.clip(goal + change, measured - self._leash, measured + self._leash)
        goal = np.clip(led, self._low, self._high)
        self._goal = np.where(self._delta, 0.0, goal)
        return PoseAction(goal.astype(np.float32))


def is_gripper(field: str) -> bool:
    """Say whether a field is a gripper's, by its name."""
    return "gripper" in field or "jaw" in field

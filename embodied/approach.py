"""The way to a pose that may be far off: slowly, along a straight line, all fields arriving together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embodied.types import PoseAction, RobotSpec

Array = NDArray[np.float64]

WHOLE_RANGE_S = 8.0  # what a field takes for the whole of its range, at the quickest
ALLOWED_S = 2 * WHOLE_RANGE_S  # what the way to a pose that may itself move is allowed for
NEAR = 0.01  # of a field's range: a pose as close as that is reached


def towards(spec: RobotSpec, at: Array, goal: Array) -> Array:
    """Return the pose (n,) one control period further on the slow way from a commanded pose (n,) to a goal (n,)."""
    step = ranges(spec) / (WHOLE_RANGE_S * spec.control_hz)
    if spec.limits.velocity:
        step = np.minimum(step, np.array(spec.limits.velocity) / spec.control_hz)
    periods = float(np.max(np.abs(goal - at) / step))
    return at + (goal - at) / max(periods, 1.0)


def is_near(spec: RobotSpec, at: Array, goal: Array) -> bool:
    """Say whether every field is within NEAR of the goal."""
    return bool((np.abs(goal - at) <= NEAR * ranges(spec)).all())


def approach(spec: RobotSpec, at: Array, goal: Array) -> Iterator[PoseAction]:
    """Yield the poses of the slow way from (n,) to (n,), the goal last."""
    while not np.array_equal(at, goal):
        at = towards(spec, at, goal)
        yield PoseAction(at.astype(np.float32))


def ranges(spec: RobotSpec) -> Array:
    """Return the range of each action field (n,), in its unit."""
    return np.array([f.high - f.low for f in spec.action])

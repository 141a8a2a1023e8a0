"""What staying put is: the last pose, or the measured one before any, for absolute fields; zeros for a delta."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import SpecMismatchError
from embodied.types import Observation, PoseAction, RobotSpec, Vector


def require_holdable(spec: RobotSpec, who: str) -> None:
    """Raise SpecMismatchError, in the name of who, if an absolute action field has no state field of its name."""
    state = {f.name for f in spec.state}
    lacking = [f.name for f in spec.action if f.mode == "absolute" and f.name not in state]
    if lacking:
        lines = [f"action.{name}: no state field of this name to hold" for name in lacking]
        raise SpecMismatchError(who, f"robot {spec.name!r}", lines)


def held(spec: RobotSpec, state: NDArray[np.floating[Any]]) -> Vector:
    """Return the action's numbers (..., m) that stay at measured states (..., n); spec must be holdable."""
    places = dict(zip((f.name for f in spec.state), range(state.shape[-1]), strict=True))
    values = np.zeros((*state.shape[:-1], len(spec.action)), np.float32)
    for index, f in enumerate(spec.action):
        if f.mode == "absolute":  # a measured position may lie a hair outside its range, and a command may not
            values[..., index] = np.clip(state[..., places[f.name]].astype(np.float64), f.low, f.high)
    return values


def hold_measured(spec: RobotSpec, observation: Observation) -> PoseAction:
    """Return the action that stays where the robot was measured to be; spec must be holdable."""
    return PoseAction(held(spec, observation.state))


def hold_pose(spec: RobotSpec, last: PoseAction) -> PoseAction:
    """Return the action that stays at the last pose commanded."""
    delta = np.array([f.mode == "delta" for f in spec.action], np.bool_)
    return PoseAction(np.where(delta, np.float32(0), last.values))

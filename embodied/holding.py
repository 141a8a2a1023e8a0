"""What staying put is: the last pose, or the measured one before any, for absolute fields; zeros for a delta."""

from __future__ import annotations

import numpy as np

from embodied.errors import SpecMismatchError
from embodied.types import Observation, PoseAction, RobotSpec


def require_holdable(spec: RobotSpec, who: str) -> None:
    """Raise SpecMismatchError, in the name of who, if an absolute action field has no state field of its name."""
    state = {f.name for f in spec.state}
    lacking = [f.name for f in spec.action if f.mode == "absolute" and f.name not in state]
    if lacking:
        lines = [f"action.{name}: no state field of this name to hold" for name in lacking]
        raise SpecMismatchError(who, f"robot {spec.name!r}", lines)


def hold_measured(spec: RobotSpec, observation: Observation) -> PoseAction:
    """Return the action that stays where the robot was measured to be; spec must be holdable."""
    measured = dict(zip((f.name for f in spec.state), observation.state, strict=True))
    # A measured position may lie a hair outside its range, and a command may not.
    values = [0.0 if f.mode == "delta" else min(max(float(measured[f.name]), f.low), f.high) for f in spec.action]
    return PoseAction(np.array(values, np.float32))


def hold_pose(spec: RobotSpec, last: PoseAction) -> PoseAction:
    """Return the action that stays at the last pose commanded."""
    delta = np.array([f.mode == "delta" for f in spec.action], np.bool_)
    return PoseAction(np.where(delta, np.float32(0), last.values))

"""Limits on a command: what is not finite is held, what is out of range is clamped, and both are reported."""

import numpy as np
from numpy.typing import NDArray

from embodied.errors import InvalidActionError
from embodied.types import Intervention, RobotSpec, Vector


def limit_action(spec: RobotSpec, values: Vector, hold: Vector) -> tuple[Vector, tuple[Intervention, ...]]:
    """Bound a command to the ranges of spec.action; return the command to carry out and what was changed.

    values and hold are (n,) in the order and units of spec.action. A non-finite number anywhere holds the whole
    command, since the rest of it was meant for a pose that is not known; hold is where the robot stays then (the last
    command or the measured position, zeros for delta fields) and must be finite. Raise InvalidActionError for a wrong
    length.
    """
    count = len(spec.action)
    if values.shape != (count,) or hold.shape != (count,):
        raise InvalidActionError(
            f"action has shape {values.shape}, hold {hold.shape}; {spec.name} takes ({count},): "
            f"{[f.name for f in spec.action]}"
        )
    if not np.isfinite(hold).all():
        raise ValueError(f"hold must be finite, got {hold}")
    # Bounds are compared as float32, the type a command has: else float32(high) itself could count as out of range.
    low = np.array([f.low for f in spec.action], np.float32)
    high = np.array([f.high for f in spec.action], np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        applied = np.clip(hold, low, high).astype(np.float32)
        return applied, _report(spec, values, applied, ~finite, "non_finite")
    applied = np.clip(values, low, high).astype(np.float32)
    return applied, _report(spec, values, applied, (values < low) | (values > high), "position")


def _report(
    spec: RobotSpec, requested: Vector, applied: Vector, changed: NDArray[np.bool_], kind: str
) -> tuple[Intervention, ...]:
    return tuple(
        Intervention(kind, spec.action[i].name, float(requested[i]), float(applied[i])) for i in np.flatnonzero(changed)
    )

"""How far two robots were apart that were told the same: errors joint by joint, and how much later one was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError
from embodied.types import Field

Array = NDArray[np.float64]

GRID_S = 0.01
LAG_S = 0.5  # looked for up to here, either way, and up to a quarter of the time shared
LEAST_S = 0.2  # of time shared
LAG_STEP_S = 0.005
MOVES = 0.02  # of a field's range: of one that moves less no lag is told


@dataclass(frozen=True, eq=False)
class Motion:
    """What one robot did: where its fields were, and when, from the first action on."""

    name: str
    time_s: Array  # (m,) rising
    state: Array  # (m, fields)


@dataclass(frozen=True)
class Parity:
    """How far the second of two motions was from the first in one field; errors are in the field's unit."""

    field: str
    unit: str
    rmse: float
    p95: float
    max: float
    lag_s: float | None  # by which the second is later; None where too little moves to tell
    rmse_without_lag: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON types, angles in degrees too."""
        errors = {"rmse": self.rmse, "p95": self.p95, "max": self.max, "rmse_without_lag": self.rmse_without_lag}
        told: dict[str, Any] = {"unit": self.unit, **errors, "lag_s": self.lag_s}
        if self.unit == "rad":
            told["deg"] = {name: None if e is None else float(np.degrees(e)) for name, e in errors.items()}
        return told


def compare(first: Motion, second: Motion, fields: Sequence[Field]) -> list[Parity]:
    """Compare two motions field by field, over the time that they share, linearly between observations.

    Raise EmbodiedError where they share less than LEAST_S.
    """
    start, stop = max(first.time_s[0], second.time_s[0]), min(first.time_s[-1], second.time_s[-1])
    if stop - start < LEAST_S:
        raise EmbodiedError(
            f"{first.name} and {second.name} share {max(0.0, stop - start):.2f} s; too little to compare"
        )
    times = np.arange(start, stop, GRID_S)
    return [_field(f, i, first, second, times) for i, f in enumerate(fields)]


def error(first: Motion, second: Motion, index: int, times: Array) -> Array:
    """Return how much further the second was in a field at times (k,), in its unit."""
    return at(second, index, times) - at(first, index, times)


def at(motion: Motion, index: int, times: Array) -> Array:
    """Return where a field was at times (k,)."""
    return np.interp(times, motion.time_s, motion.state[:, index])


def _field(field: Field, index: int, first: Motion, second: Motion, times: Array) -> Parity:
    off = np.abs(error(first, second, index, times))
    lag_s, without = _lag(field, index, first, second, times)
    rmse, p95 = float(np.sqrt(np.mean(off**2))), float(np.percentile(off, 95))
    return Parity(field.name, field.unit, rmse, p95, float(off.max()), lag_s, without)


def _lag(field: Field, index: int, first: Motion, second: Motion, times: Array) -> tuple[float | None, float | None]:
    """Return by how much the second is later, and the error that is left when it is moved back by that."""
    most_s = LAG_STEP_S * round(min(LAG_S, (times[-1] - times[0]) / 4) / LAG_STEP_S)
    inner = times[(times >= times[0] + most_s) & (times <= times[-1] - most_s)]
    reference = at(first, index, inner)
    if np.ptp(reference) < MOVES * (field.high - field.low):
        return None, None
    lags = np.arange(-most_s, most_s + LAG_STEP_S / 2, LAG_STEP_S)
    left = [float(np.sqrt(np.mean((at(second, index, inner + lag) - reference) ** 2))) for lag in lags]
    best = int(np.argmin(left))
    return round(float(lags[best]), 6), left[best]

"""Value tokens: one number is one of 1000 half-open bins over its field's own range, decoded at the bin's centre."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import InvalidObservationError
from embodied.types import Field

Numbers = NDArray[Any] | Sequence[float] | float
BINS = 1000  # shared by every numeric field: error at most range / 2000, no bias


def encode_values(values: Numbers, low: Numbers, high: Numbers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (bins, outside), both shaped like values: the bin of each number, and whether it lay out of [low, high].

    A number outside gets the nearest end's bin and is reported, never wrapped. Raise InvalidObservationError for
    a number that is not finite.
    """
    start, end = np.asarray(low, np.float64), np.asarray(high, np.float64)
    numbers = np.asarray(values, np.float64)
    # Multiplied before it is divided, so that rounding moves no bin's own edge into the bin below.
    places = (numbers - start) * BINS / (end - start)
    if not np.isfinite(places).all():
        raise InvalidObservationError(f"only finite numbers have a value token, got {np.asarray(values).tolist()}")
    outside = (numbers < start) | (numbers > end)
    return np.clip(np.floor(places), 0, BINS - 1).astype(np.int64), outside


def decode_values(bins: Numbers, low: Numbers, high: Numbers) -> NDArray[np.float64]:
    """Return the centres of bins, shaped like them, in the units of low and high."""
    start, end = np.asarray(low, np.float64), np.asarray(high, np.float64)
    values: NDArray[np.float64] = start + (np.asarray(bins) + 0.5) / BINS * (end - start)
    return values  # not float32, which far from zero is coarser than a bin


def ranges(fields: Sequence[Field]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (low, high), each (n,), of the fields in their order."""
    return np.array([f.low for f in fields]), np.array([f.high for f in fields])

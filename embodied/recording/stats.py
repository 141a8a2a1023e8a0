"""Statistics of a recording, as LeRobot's meta/stats.json has them: min, max, mean, std and count a feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.recording import jpeg


def of_column(column: NDArray[Any]) -> dict[str, Any] | None:
    """Return the statistics of an (n,) or (n, k) column over its rows, or None where a value is not finite."""
    values = np.asarray(column, dtype=np.float64).reshape(len(column), -1)
    if not np.isfinite(values).all():
        return None
    return {
        "min": values.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [len(values)],
    }


class ImageStatistics:
    """Running statistics of a camera's pixels a colour channel, in 0..1, over the frames it is shown."""

    def __init__(self) -> None:
        self._frames = 0
        self._pixels = 0
        self._sum = np.zeros(3)
        self._square_sum = np.zeros(3)
        self._min = np.ones(3)
        self._max = np.zeros(3)

    def add(self, data: bytes) -> None:
        """Count one JPEG in."""
        pixels = jpeg.decode(np.frombuffer(data, dtype=np.uint8)).reshape(-1, 3) / 255.0
        self._frames += 1
        self._pixels += len(pixels)
        self._sum += pixels.sum(axis=0)
        self._square_sum += (pixels**2).sum(axis=0)
        self._min = np.minimum(self._min, pixels.min(axis=0))
        self._max = np.maximum(self._max, pixels.max(axis=0))

    def result(self) -> dict[str, Any]:
        """Return the statistics, each (3, 1, 1) as LeRobot shapes them."""
        mean = self._sum / self._pixels
        std = np.sqrt(np.maximum(self._square_sum / self._pixels - mean**2, 0.0))
        found: dict[str, Any] = {
            name: values.reshape(3, 1, 1).tolist()
            for name, values in (("min", self._min), ("max", self._max), ("mean", mean), ("std", std))
        }
        return {**found, "count": [self._frames]}

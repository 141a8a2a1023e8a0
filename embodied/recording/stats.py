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
    """Statistics of a camera's pixels a colour channel, in 0..1, over the frames it is shown, from exact histograms."""

    def __init__(self) -> None:
        self._frames = 0
        self._counts = np.zeros((3, 256), dtype=np.int64)

    def add(self, data: bytes) -> None:
        """Count one JPEG in."""
        pixels = jpeg.decode(np.frombuffer(data, dtype=np.uint8)).reshape(-1, 3)
        self._frames += 1
        self._counts += np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])

    def result(self) -> dict[str, Any]:
        """Return the statistics, each (3, 1, 1) as LeRobot shapes them."""
        values = np.arange(256) / 255.0
        seen = self._counts > 0
        share = self._counts / self._counts.sum(axis=1, keepdims=True)
        mean = share @ values
        found: dict[str, NDArray[np.float64]] = {
            "min": values[seen.argmax(axis=1)],
            "max": values[255 - seen[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1)),
        }
        return {**{name: of.reshape(3, 1, 1).tolist() for name, of in found.items()}, "count": [self._frames]}

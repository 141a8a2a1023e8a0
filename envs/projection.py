"""Where points lie in a camera's frame: a pinhole, no rendering."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CUBE_CORNERS = np.array(list(itertools.product((-1, 1), repeat=3)), np.float64)  # (8, 3) of a cube of half size 1


def outline(points: Array, view: Any, fovy_deg: float) -> Array:  # noqa: ANN401 - MuJoCo's own type has no name
    """Return the edges (y1, x1, y2, x2) of points (n, 3) in m in a square frame, fractions from the top left.

    view is the camera's entry in the data. What lies outside the frame is below 0 or above 1.
    """
    local = (points - view.xpos) @ view.xmat.reshape(3, 3)  # x right, y up, looking along -z
    scale = 0.5 / np.tan(np.deg2rad(fovy_deg) / 2)
    places = 0.5 + scale * local[:, [1, 0]] * (-1, 1) / -local[:, 2:]
    return np.concatenate([places.min(0), places.max(0)])

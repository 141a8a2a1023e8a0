"""Where an object of the SO-101's world appears in a camera's frame: the box around its outline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.types import Vector
from envs.layout import BOWL_HEIGHT_M, BOWL_INNER_M, BOWL_RADIUS_M, BOWL_WALL_M, CUBE_HALF_M, ZONE_RADIUS_M
from envs.projection import CUBE_CORNERS, outline
from envs.scene import Scene

Array = NDArray[np.float64]


def _circle(radius_m: float, height_m: float) -> Array:
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return np.column_stack([radius_m * np.cos(angles), radius_m * np.sin(angles), np.full(16, height_m)])


# Points (n, 3) in the object's own frame whose hull is the object's outline.
_OUTLINES: dict[str, Array] = {
    "cube": CUBE_HALF_M * CUBE_CORNERS,
    "bowl": np.concatenate([_circle(BOWL_INNER_M + BOWL_WALL_M, 0.0), _circle(BOWL_RADIUS_M, BOWL_HEIGHT_M)]),
    "zone": _circle(ZONE_RADIUS_M, 0.0),
}


def box(scene: Scene, name: str, camera: str) -> Vector:
    """Return the object's box (y1, x1, y2, x2) in a square camera's frame, fractions 0..1 from the top left.

    What lies outside the frame is cut off; what other objects hide is not.
    """
    points = _OUTLINES[name.partition("_")[0]] @ scene.rotation(name).T + scene.position(name)
    edges = outline(points, scene.data.camera(camera), scene.model.camera(camera).fovy[0])
    return np.asarray(np.clip(edges, 0.0, 1.0), np.float32)

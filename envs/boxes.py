"""Where an object appears in a camera's frame: its outline projected through a pinhole, no rendering."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from embodied.types import Vector
from envs.layout import BOWL_HEIGHT_M, BOWL_INNER_M, BOWL_RADIUS_M, BOWL_WALL_M, CUBE_HALF_M, ZONE_RADIUS_M
from envs.scene import Scene

Array = NDArray[np.float64]


def _circle(radius_m: float, height_m: float) -> Array:
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return np.column_stack([radius_m * np.cos(angles), radius_m * np.sin(angles), np.full(16, height_m)])


# Points (n, 3) in the object's own frame whose hull is the object's outline.
_OUTLINES: dict[str, Array] = {
    "cube": CUBE_HALF_M * np.array(list(itertools.product((-1, 1), repeat=3)), np.float64),
    "bowl": np.concatenate([_circle(BOWL_INNER_M + BOWL_WALL_M, 0.0), _circle(BOWL_RADIUS_M, BOWL_HEIGHT_M)]),
    "zone": _circle(ZONE_RADIUS_M, 0.0),
}


def box(scene: Scene, name: str, camera: str) -> Vector:
    """Return the object's box (y1, x1, y2, x2) in a square camera's frame, fractions 0..1 from the top left.

    What lies outside the frame is cut off; what other objects hide is not.
    """
    points = _OUTLINES[name.partition("_")[0]] @ scene.rotation(name).T + scene.position(name)
    view = scene.data.camera(camera)
    local = (points - view.xpos) @ view.xmat.reshape(3, 3)  # x right, y up, looking along -z
    scale = 0.5 / np.tan(np.deg2rad(scene.model.camera(camera).fovy[0]) / 2)
    across = 0.5 + scale * local[:, 0] / -local[:, 2]
    down = 0.5 - scale * local[:, 1] / -local[:, 2]
    corners = np.array([down.min(), across.min(), down.max(), across.max()])
    return np.asarray(np.clip(corners, 0.0, 1.0), np.float32)

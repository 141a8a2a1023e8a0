"""The T of PushT on its plane: its outline, where it should lie, and how a round pusher moves it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Facts of gym-pusht 0.1.8, in px of its 512: the T is two rectangles (x1, y1, x2, y2) in its own frame.
RECTANGLES = np.array([(-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0)])
CORNERS = np.array([(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], np.float64)
CENTRE = np.array([0.0, 45.0])  # of gravity
INERTIA = 3000.0  # of a mass of 1
PUSHER_RADIUS = 15.0
GOAL = np.array([256.0, 256.0, np.pi / 4])
BOARD = 512.0
WALLS = (7.0, 504.0)  # where what is within them ends
LONGEST_ARM = 122.0  # of the T, from its origin


def _along_the_outline(spacing: float, inset: float) -> tuple[Array, Array]:
    """Return points (n, 2) on the outline, inset from its corners, and the outward normals (n, 2) there."""
    points, normals = [], []
    for start, end in zip(CORNERS, np.roll(CORNERS, -1, axis=0), strict=True):
        length = float(np.linalg.norm(end - start))
        along = (end - start) / length
        count = max(2, round((length - 2 * inset) / spacing) + 1)
        places = np.linspace(inset, length - inset, count)
        points.append(start + places[:, None] * along)
        normals.append(np.tile([along[1], -along[0]], (count, 1)))
    return np.concatenate(points), np.concatenate(normals)


def turn(vectors: Array, angle: Array | float) -> Array:
    """Return vectors (..., 2) turned by angles (...), rad."""
    c, s = np.cos(angle), np.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([c * x - s * y, s * x + c * y], axis=-1)


CONTACTS, CONTACT_NORMALS = _along_the_outline(12.0, 3.0)


def _moved_by_pose() -> tuple[Array, Array]:
    """Return what cosine, sine, x and y off their goal move: points across the outline (4, n), and all (4, 4) squared.

    A point p is moved by (cosine) p + (sine) (p turned by 90 degrees) + (x, y).
    """
    points, normals = _along_the_outline(12.0, 3.0)
    ones = np.ones(len(points))
    moves = np.stack(
        [points, turn(points, np.pi / 2), np.outer(ones, [1.0, 0.0]), np.outer(ones, [0.0, 1.0])]
    )  # (4, n, 2)
    across = (moves * turn(normals, GOAL[2])).sum(-1)
    return across, np.einsum("inx,jnx->ij", moves, moves) / len(points)


def place(points: Array, pose: Array) -> Array:
    """Return where points (..., 2) of the T are on the board when it lies at pose (..., 3): x, y, angle."""
    return turn(points, pose[..., 2]) + pose[..., :2]


_ACROSS, _SPREAD = _moved_by_pose()


def clearance(points: Array, pose: Array) -> Array:
    """Return the distances (...) from points (..., 2) on the board to the T at pose (..., 3); 0 inside."""
    local = turn(points - pose[..., :2], -pose[..., 2])
    return np.asarray(np.linalg.norm(local - _nearest(local), axis=-1))


def nearest(points: Array, pose: Array) -> Array:
    """Return the points (..., 2) of the T at pose (..., 3) that are nearest to points (..., 2), all on the board."""
    return place(_nearest(turn(points - pose[..., :2], -pose[..., 2])), pose)


def misplaced(pose: Array) -> Array:
    """Return how far off its goal the T at pose (..., 3) is, px, over its outline.

    Of what is off, the mean across the outline counts most: to first order it is the area that lies beside the goal.
    """
    off = np.stack(
        [
            np.cos(pose[..., 2]) - np.cos(GOAL[2]),
            np.sin(pose[..., 2]) - np.sin(GOAL[2]),
            pose[..., 0] - GOAL[0],
            pose[..., 1] - GOAL[1],
        ],
        axis=-1,
    )
    across = np.abs(off @ _ACROSS).mean(-1)
    anyhow = np.sqrt(np.maximum((off @ _SPREAD * off).sum(-1), 0.0))
    return np.asarray(0.7 * across + 0.3 * anyhow)


def push(pose: Array, pusher: Array, way: Array) -> Array:
    """Return poses (n, 3) of Ts at pose (n, 3) after their pushers at (n, 2) have gone a short way (n, 2).

    Nothing slides on by itself in PushT and its contacts have no friction: a push moves the T along the contact's
    normal and turns it by its leverage about the centre of gravity, as much as makes room. So do the walls.
    """
    pusher = pusher + way
    for _ in range(2):  # in an inner corner there are two contacts
        local = turn(pusher - pose[:, :2], -pose[:, 2])
        touched = _nearest(local)
        away = touched - local
        distance = np.linalg.norm(away, axis=1)
        normal = away / np.maximum(distance, 1e-9)[:, None]
        pose = _shifted(pose, touched, normal, np.maximum(PUSHER_RADIUS - distance, 0.0))
        if (at_wall := np.abs(pose[:, :2] - BOARD / 2).max(1) > BOARD / 2 - LONGEST_ARM).any():
            pose[at_wall] = _inside(pose[at_wall])
    return pose


def _shifted(pose: Array, touched: Array, normal: Array, depth: Array) -> Array:
    """Return poses (n, 3) of Ts pushed at touched (n, 2) along normal (n, 2), both in their own frames, by depth."""
    arm = touched - CENTRE
    leverage = arm[:, 0] * normal[:, 1] - arm[:, 1] * normal[:, 0]
    impulse = depth / (1 + leverage**2 / INERTIA)
    centre = place(CENTRE + impulse[:, None] * normal, pose)
    angle = pose[:, 2] + impulse * leverage / INERTIA
    return np.column_stack([centre - turn(np.broadcast_to(CENTRE, centre.shape), angle), angle])


def _inside(pose: Array) -> Array:
    """Return poses (n, 3) of Ts that the walls have pushed back, at the deepest corner of each side in turn."""
    for axis, side, wall in ((0, -1, WALLS[0]), (0, 1, WALLS[1]), (1, -1, WALLS[0]), (1, 1, WALLS[1])):
        depths = side * (place(CORNERS, pose[:, None])[..., axis] - wall)  # (n, corners)
        deepest = depths.argmax(1)
        inward = np.zeros(2)
        inward[axis] = -side
        normal = turn(np.broadcast_to(inward, (len(pose), 2)), -pose[:, 2])
        pose = _shifted(pose, CORNERS[deepest], normal, np.maximum(depths.max(1), 0.0))
    return pose


def _nearest(local: Array) -> Array:
    """Return the points (..., 2) of the T nearest to points (..., 2), all in its own frame."""
    clipped = np.clip(local[..., None, :], RECTANGLES[:, :2], RECTANGLES[:, 2:])
    distance = ((clipped - local[..., None, :]) ** 2).sum(-1)
    first = (distance[..., 0] <= distance[..., 1])[..., None]
    return np.where(first, clipped[..., 0, :], clipped[..., 1, :])

"""Where the tool of a serial arm is, in plain numpy: no simulator is needed beside a robot."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Triple = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]  # w x y z, of any length

STEPS = 12
CLOSE_M = 1e-5
DAMPING_M = 2e-3  # m for a radian: below this a joint is not asked to move the tool
TURN_M = 0.02  # what a radian by which the tool turns weighs beside a metre by which it is off


@dataclass(frozen=True)
class Link:
    """One revolute joint: its frame in that of the link before it, and its axis there."""

    position_m: Triple
    quaternion: Quaternion
    axis: Triple = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Chain:
    """Links from the base to the tool; the first joints of an arm, in its order, where it has more."""

    links: tuple[Link, ...]
    tool_m: Triple  # in the last link's frame
    _still: Array = field(init=False, repr=False, compare=False)  # (n, 4, 4) what of a link's transform is constant,
    _sine: Array = field(init=False, repr=False, compare=False)  # what of it goes with the sine of its angle,
    _versine: Array = field(init=False, repr=False, compare=False)  # and what with 1 - its cosine (Rodrigues 1840)
    _tool: Array = field(init=False, repr=False, compare=False)  # (4,)

    def __post_init__(self) -> None:
        still, sine, versine = (np.array(parts) for parts in zip(*map(_transform, self.links), strict=True))
        for name, value in (("_still", still), ("_sine", sine), ("_versine", versine)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_tool", np.array([*self.tool_m, 1.0]))

    def tool_position(self, values: Array) -> Array:
        """Return the tool's place (3,), m in the base frame, for joints (n,) rad."""
        point = self._tool
        for transform in self._transforms(values)[::-1]:
            point = transform @ point
        return point[:3]

    def nudge(self, rad: Array, delta_m: Array) -> Array:
        """Return joints (n,) rad near rad with which the tool is delta_m (3,) further, turned as little as it can be.

        By Newton's method, damped (Levenberg 1944). Where the arm cannot follow the tool ends short of it: compare
        tool_position. Joints beyond the chain, as the gripper's, stay as they are.
        """
        moved = np.array(rad, np.float64)
        n = len(self.links)
        start, heading, _ = self._pose(moved)
        target = start + delta_m
        for _ in range(STEPS):
            position, rotation, jacobian = self._pose(moved)
            off = target - position
            if np.linalg.norm(off) < CLOSE_M:
                break
            slopes = np.vstack([jacobian[:3], TURN_M * jacobian[3:]])
            error = np.concatenate([off, TURN_M * _between(rotation, heading)])
            moved[:n] += slopes.T @ np.linalg.solve(slopes @ slopes.T + DAMPING_M**2 * np.eye(6), error)
        return moved

    def _transforms(self, values: Array) -> Array:
        """Return the links' transforms (n, 4, 4), each in the frame of the one before."""
        angles = np.asarray(values[: len(self.links)])[:, None, None]
        transforms: Array = self._still + np.sin(angles) * self._sine + (1 - np.cos(angles)) * self._versine
        return transforms

    def _pose(self, values: Array) -> tuple[Array, Array, Array]:
        """Return the tool's place (3,), its rotation (3, 3), and how both change with the joints (6, n)."""
        frame, frames = np.eye(4), []
        for transform in self._transforms(values):
            frame = frame @ transform
            frames.append(frame)
        axes = np.array([f[:3, :3] @ link.axis for f, link in zip(frames, self.links, strict=True)])
        tool = (frame @ self._tool)[:3]
        arms = tool - np.array([f[:3, 3] for f in frames])
        return tool, frame[:3, :3], np.vstack([np.cross(axes, arms).T, axes.T])


def _transform(link: Link) -> tuple[Array, Array, Array]:
    """Return the constant, sine and versine parts (4, 4) of a link's transform."""
    w, x, y, z = np.array(link.quaternion) / np.linalg.norm(link.quaternion)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    x, y, z = np.array(link.axis) / np.linalg.norm(link.axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    still, sine, versine = np.eye(4), np.zeros((4, 4)), np.zeros((4, 4))
    still[:3, :3], still[:3, 3] = turn, link.position_m
    sine[:3, :3], versine[:3, :3] = turn @ cross, turn @ cross @ cross
    return still, sine, versine


def _between(rotation: Array, wanted: Array) -> Array:
    """Return the turn (3,), rad in the base frame, from one rotation to another near it."""
    gap = wanted @ rotation.T
    return np.array([gap[2, 1] - gap[1, 2], gap[0, 2] - gap[2, 0], gap[1, 0] - gap[0, 1]]) / 2

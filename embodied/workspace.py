"""Keeps a robot's tool within a box, and lets one that began outside come back in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from embodied.types import Box, Intervention

Array = NDArray[np.float64]
Point = tuple[float, float, float]
ToolPosition = Callable[[Array], Array]  # (n,) in the order of spec.action to (3,), m in the robot's base frame

NEWTON_STEPS = 3
NUDGE = 1e-6  # of a field, to find how the tool moves with it
DAMPING = 0.01  # m for a unit of a field
INSIDE_M = 1e-6  # how far within a face a tool is put that was to leave by it
AXES = ("tool_x", "tool_y", "tool_z")


class Workspace:
    """Says which ways the tool may go: those that stay in the box, widened by as far as it is outside already."""

    def __init__(self, box: Box, tool_position: ToolPosition) -> None:
        self._box, self._tool_position = box, tool_position
        self._low, self._high = box.low, box.high
        self.refused: Point = box.low  # where the tool would have been, x y z, on the last way not admitted

    def begin(self, at: Array) -> None:
        """Start from the pose at (n,), wherever it is."""
        self._allow([self._tool(at)])

    def admits(self, way: Iterable[Array]) -> bool:
        """Say whether the tool may go along way, poses (n,); once it may, it may go no further outside than that."""
        (x0, y0, z0), (x1, y1, z1) = self._low, self._high
        tools = []
        for pose in way:
            x, y, z = tool = self._tool(pose)
            if not (x0 <= x <= x1 and y0 <= y <= y1 and z0 <= z <= z1):
                self.refused = tool
                return False
            tools.append(tool)
        if self._wider:
            self._allow(tools)
        return True

    def inward(self, pose: Array) -> Array:
        """Return a small change (n,) of a pose that brings a tool outside back to the nearest face, or nearer to it.

        By Newton's method, damped (Levenberg 1944): where the arm is stretched, no small change would do.
        """
        change = np.zeros_like(pose)
        for _ in range(NEWTON_STEPS):
            tool = np.array(self._tool(pose + change))
            back = np.clip(tool, np.add(self._low, INSIDE_M), np.subtract(self._high, INSIDE_M)) - tool
            if not (out := back != 0).any():
                break
            slopes = np.array([self._tool(pose + change + step) - tool for step in NUDGE * np.eye(len(pose))]) / NUDGE
            slopes = slopes[:, out]
            change += slopes @ np.linalg.solve(slopes.T @ slopes + DAMPING**2 * np.eye(slopes.shape[1]), back[out])
        return change

    def report(self, refused: Point, at: Array) -> list[Intervention]:
        """Return an intervention for each axis by which a refused tool would have left; at (n,) is what came of it."""
        axes = zip(AXES, self._low, refused, self._high, self._tool(at), strict=True)
        return [Intervention("workspace", axis, x, now) for axis, low, x, high, now in axes if not low <= x <= high]

    def _tool(self, pose: Array) -> Point:
        x, y, z = self._tool_position(pose).tolist()  # plain floats: three comparisons are quicker than three arrays
        return x, y, z

    def _allow(self, tools: list[Point]) -> None:
        """Allow the box and where the tools are, no more."""
        xs, ys, zs = zip(self._box.low, self._box.high, *tools, strict=True)
        self._low = min(xs), min(ys), min(zs)
        self._high = max(xs), max(ys), max(zs)
        self._wider = (self._low, self._high) != (self._box.low, self._box.high)

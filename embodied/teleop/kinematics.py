"""How joints must change a little for the tool to move a little, for a robot that knows where its tool is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.teleop.jog import Nudge
from embodied.workspace import ToolPosition

Array = NDArray[np.float64]

STEP = 1e-6  # of a field, to find how the tool moves with it
DAMPING = 0.02  # m for a unit of a field: what a stretched arm is spared


def nudging(tool_position: ToolPosition) -> Nudge:
    """Return the nudge of a robot by the place of its tool: damped least squares (Wampler 1986, Nakamura 1986)."""

    def nudge(values: Array, tool_m: Array) -> Array:
        here = tool_position(values)
        slopes = np.array([tool_position(values + step) - here for step in STEP * np.eye(len(values))]) / STEP  # (n, 3)
        change: Array = slopes @ np.linalg.solve(slopes.T @ slopes + DAMPING**2 * np.eye(3), tool_m)
        return values + change

    return nudge

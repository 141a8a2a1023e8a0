"""The closed table of words that an arm obeys: what each means for its joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.hardware.arm import ArmModel
from embodied.safety import MAX_WORD
from embodied.types import Intervention, SkillCall, TextAction

Array = NDArray[np.float64]

STEP_M = 0.02
GRIPPER_STEP_RAD = 0.3
HOMING_STEP_RAD = 0.15
REACHED_M = 1e-3

# Unit displacements in the base frame: x forward, y left, z up.
MOVES: dict[str, tuple[float, float, float]] = {
    "move forward": (1, 0, 0),
    "move back": (-1, 0, 0),
    "move left": (0, 1, 0),
    "move right": (0, -1, 0),
    "move up": (0, 0, 1),
    "move down": (0, 0, -1),
}
GRIPS = {"open gripper": GRIPPER_STEP_RAD, "close gripper": -GRIPPER_STEP_RAD}
ALWAYS = ("home", "stop")


def skills(*, moves: bool, grips: bool) -> tuple[str, ...]:
    """Return the words of an arm, with those that need a chain and those that need a gripper."""
    return (*ALWAYS, *(MOVES if moves else ()), *(GRIPS if grips else ()), "wait")


class Verbs:
    """The words of one arm: those that its spec declares as skills."""

    def __init__(self, arm: ArmModel) -> None:
        self._arm = arm
        self._home = np.array(arm.home_rad)
        self._low, self._high = arm.low_rad, arm.high_rad

    def lower(
        self, action: TextAction | SkillCall, at: Array, measured: Array
    ) -> tuple[Array, tuple[Intervention, ...]]:
        """Return the joints (n,) rad that carry out action from at (n,) rad, the arm being at measured, or why not."""
        words = " ".join((action.text if isinstance(action, TextAction) else action.name).lower().split())
        if words not in self._arm.skills:
            return at, (Intervention("unknown_verb", words[:MAX_WORD], 0.0, 0.0),)
        if words == "stop":
            return np.clip(measured, self._low, self._high), ()
        if words == "home":
            return at + np.clip(self._home - at, -HOMING_STEP_RAD, HOMING_STEP_RAD), ()
        if words in GRIPS:
            turned = at.copy()
            turned[self._arm.names.index(self._arm.gripper)] += GRIPS[words]
            return np.clip(turned, self._low, self._high), ()
        return self._move(words, at) if words in MOVES else (at, ())

    def _move(self, words: str, at: Array) -> tuple[Array, tuple[Intervention, ...]]:
        chain = self._arm.chain
        assert chain is not None, "an arm without a chain declares no moves"
        delta_m = STEP_M * np.array(MOVES[words])
        moved = np.clip(chain.nudge(at, delta_m), self._low, self._high)
        off_m = np.linalg.norm(chain.tool_position(at) + delta_m - chain.tool_position(moved))
        if off_m > REACHED_M:
            return at, (Intervention("workspace", words, 0.0, 0.0),)
        return moved, ()

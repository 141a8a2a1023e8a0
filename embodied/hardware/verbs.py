"""What the words that a real arm obeys mean for its joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.hardware.arm import ArmModel
from embodied.safety import MAX_WORD
from embodied.types import Intervention, SkillCall, TextAction
from embodied.words import ALWAYS, GRIPS, HOMING_STEP_RAD, MOVES, STEP_M, WAIT

Array = NDArray[np.float64]

REACHED_M = 1e-3


def skills(*, moves: bool, grips: bool) -> tuple[str, ...]:
    """Return the words of an arm, with those that need a chain and those that need a gripper."""
    return (*ALWAYS, *(MOVES if moves else ()), *(GRIPS if grips else ()), WAIT)


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

"""Why an episode failed, by plain rules about where hand, object and goal were, as far as a simulator tells the truth.

The truth is that of the steps with which decisions ended, and only of an episode that is over: no policy sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.types import Field, Observation, Step

Array = NDArray[np.float64]

HAND = ("hand_x", "hand_y", "hand_z")  # fields of the state, m, in the frame of the labels
TARGET, GOAL = "target_position", "goal_position"  # labels, (3,) m
NEAR_M = 0.06  # of the hand to the object: more than half of one, less than between two
MOVED_M = 0.02
LIFTED_M = 0.03
AT_GOAL_M = 0.07
NEARING_M = 0.01  # in the last fifth of the episode


@dataclass(frozen=True)
class Failure:
    """What kept an episode from success, and the least distances: of hand and object, of object and goal."""

    cause: str
    hand_to_target_m: float
    target_to_goal_m: float


class Trace:
    """A Witness of where hand, object and goal were; of a robot that does not tell it makes nothing."""

    def __init__(self, state: Sequence[Field]) -> None:
        """Look for the hand among the fields of the state."""
        names = [field.name for field in state]
        self._hand = [names.index(name) for name in HAND] if set(HAND) <= set(names) else []
        self._rows: list[tuple[Array, Array, Array]] = []

    def began(self, observation: Observation) -> None:
        """Need nothing of the first observation, which comes without labels."""

    def decided(self, step: Step) -> None:
        """Remember what the step at the end of a decision tells."""
        if self._hand and {TARGET, GOAL} <= step.labels.keys():
            places = step.observation.state[self._hand], step.labels[TARGET], step.labels[GOAL]
            hand, target, goal = (np.asarray(place, np.float64) for place in places)
            self._rows.append((hand, target, goal))

    def failure(self) -> Failure | None:
        """Return why the episode failed, which it did; None where the robot told too little."""
        if not self._rows:
            return None
        hand, target, goal = (np.stack(column) for column in zip(*self._rows, strict=True))
        to_target = np.linalg.norm(hand - target, axis=1)
        to_goal = np.linalg.norm(target - goal, axis=1)
        return Failure(_cause(hand, target, goal), float(to_target.min()), float(to_goal.min()))


def _cause(hand: Array, target: Array, goal: Array) -> str:
    """Return the first rule that holds; each array is (k, 3) m over time."""
    to_target, to_goal = np.linalg.norm(hand - target, axis=1), np.linalg.norm(target - goal, axis=1)
    lifted = (target[:, 2] - target[0, 2] > LIFTED_M) & (to_target < 2 * NEAR_M)
    if to_target.min() > NEAR_M:
        came = np.linalg.norm(hand - goal, axis=1).min() < NEAR_M
        return "came to the goal without the object" if came else "never came near the object"
    if np.linalg.norm(target - target[0], axis=1).max() < MOVED_M:
        return "came near the object and did not move it"
    if lifted.any() and not lifted[-1] and to_goal[-1] > AT_GOAL_M:
        return "lifted the object and lost it"
    if to_goal.min() < AT_GOAL_M:
        return "brought the object to the goal, not quite" if to_goal[-1] < AT_GOAL_M else "moved it past the goal"
    if to_goal[-max(1, len(to_goal) // 5)] - to_goal[-1] > NEARING_M:
        return "out of time on the way to the goal"
    return "moved the object elsewhere"

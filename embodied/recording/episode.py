"""One recorded episode: what was observed, what the actor answered, and what came of it, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.recording import jpeg
from embodied.types import Observation, Step, Vector


@dataclass(frozen=True, eq=False)
class Episode:
    """The rows of one episode in memory; n rows, one a control period."""

    task: str
    seed: int
    instruction: str
    frames: Mapping[str, tuple[bytes, ...]]  # camera -> n JPEGs
    state: NDArray[np.float32]  # (n, fields) at the observation
    action: NDArray[np.float32]  # (n, fields) the answer to it, of an expert or a policy
    perturbed: NDArray[np.bool_]  # (n,) whether something else than `action` was executed
    intervention: NDArray[np.bool_]  # (n,) whether an operator acted in the policy's place
    marker: NDArray[np.bool_]  # (n,) whether an operator marked the row
    scene: NDArray[np.bool_]  # (n,) whether the row is a random scene, whose action answers nothing
    text: tuple[str, ...]  # n text actions, each that of the next half second; "" where there is none
    labels: Mapping[str, NDArray[np.float32]]  # name -> (n, size), NaN where the simulator named none
    done: NDArray[np.bool_]  # (n,) whether the step after the row ended the episode
    success: NDArray[np.bool_]  # (n,) whether the step after the row was a success
    said: tuple[str, ...] = ()  # n instructions, where a row has another than the episode's; else none

    def __len__(self) -> int:
        return len(self.state)

    @property
    def instructions(self) -> tuple[str, ...]:
        """Return each row's instruction."""
        return self.said or (self.instruction,) * len(self)

    @property
    def succeeded(self) -> bool:
        """Whether the episode ended in success."""
        return bool(self.success[-1])


class EpisodeRecorder:
    """Gathers the rows of one episode; frames are compressed as they come."""

    def __init__(self, task: str, seed: int, instruction: str, *, scene: bool = False) -> None:
        """Begin an episode; with scene every row is a random scene."""
        self._task, self._seed, self._instruction, self._scene = task, seed, instruction, scene
        self._frames: dict[str, list[bytes]] = {}
        self._state: list[Vector] = []
        self._action: list[Vector] = []
        self._perturbed: list[bool] = []
        self._text: list[str] = []
        self._labels: list[Mapping[str, Vector]] = []
        self._outcome: list[tuple[bool, bool]] = []

    def add(
        self,
        observation: Observation,
        action: Vector,
        step: Step,
        *,
        labels: Mapping[str, Vector] | None = None,
        perturbed: bool = False,
        text: str = "",
    ) -> None:
        """Add the row of an observation, the action that answers it, and the step that followed.

        labels are the simulator's truth at the observation, not after the step.
        """
        for name, frame in observation.frames.items():
            self._frames.setdefault(name, []).append(jpeg.encode(frame))
        self._state.append(observation.state)
        self._action.append(action)
        self._perturbed.append(perturbed)
        self._text.append(text)
        self._labels.append(labels or {})
        self._outcome.append((step.done, step.success))

    def finish(self, label_sizes: Mapping[str, int] | None = None) -> Episode:
        """Return the episode; a label of label_sizes that a row lacks is NaN there. Needs at least one row."""
        if not self._state:
            raise ValueError(f"episode {self._task} seed {self._seed} has no rows")
        done, success = np.asarray(self._outcome, dtype=np.bool_).T
        return Episode(
            task=self._task,
            seed=self._seed,
            instruction=self._instruction,
            frames={name: tuple(data) for name, data in self._frames.items()},
            state=np.stack(self._state).astype(np.float32),
            action=np.stack(self._action).astype(np.float32),
            perturbed=np.asarray(self._perturbed, dtype=np.bool_),
            intervention=np.zeros(len(self._state), np.bool_),
            marker=np.zeros(len(self._state), np.bool_),
            scene=np.full(len(self._state), self._scene),
            text=tuple(self._text),
            labels={name: self._label(name, size) for name, size in (label_sizes or {}).items()},
            done=done,
            success=success,
        )

    def _label(self, name: str, size: int) -> NDArray[np.float32]:
        absent = np.full(size, np.nan, dtype=np.float32)
        return np.stack([labels.get(name, absent) for labels in self._labels]).astype(np.float32)

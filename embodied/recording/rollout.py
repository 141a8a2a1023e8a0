"""Records what a policy did: each watched episode as a small dataset of its own, and those joined into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from embodied.errors import InvalidActionError
from embodied.recording.episode import Episode, EpisodeRecorder
from embodied.recording.reader import DatasetReader
from embodied.recording.writer import DatasetWriter
from embodied.types import Action, Observation, PoseAction, RobotSpec, Step, Vector


class RolloutRecorder:
    """An Observer that writes one episode at path: the actions that were commanded, whether it succeeds or not.

    A row is `perturbed` where the safety layer carried out something else. Its labels are those of the Step before it,
    which a robot gives over gRPC too, so the first row has none and a recording does not depend on where the robot is.
    """

    def __init__(self, path: Path, spec: RobotSpec, *, task: str, seed: int, instruction: str | None = None) -> None:
        self._path, self._spec = path, spec
        self._task, self._seed, self._instruction = task, seed, instruction
        self._labels: Mapping[str, Vector] = {}
        self._label_sizes: dict[str, int] = {}

    def began(self, observation: Observation) -> None:
        """Begin the episode with the instruction that the policy was given: the robot's own unless another was."""
        instruction = self._instruction or observation.instruction.strip()
        self._episode = EpisodeRecorder(self._task, self._seed, instruction)
        self._observation = observation

    def stepped(self, action: Action, step: Step) -> None:
        """Add a row; raise InvalidActionError for anything but a pose, which the format has no column for."""
        if not isinstance(action, PoseAction):
            raise InvalidActionError(f"a recording takes poses, and the policy said {action}; leave --record out")
        perturbed = bool(step.interventions)
        self._episode.add(self._observation, action.values, step, labels=self._labels, perturbed=perturbed)
        self._observation, self._labels = step.observation, step.labels
        self._label_sizes |= {name: len(values) for name, values in step.labels.items()}

    def ended(self, success: bool) -> None:
        """Write the episode."""
        writer = DatasetWriter(self._path, self._spec, label_sizes=self._label_sizes)
        writer.add(self._episode.finish(self._label_sizes))
        writer.finish()


def join(parts: Sequence[Path], path: Path, about: Mapping[str, Any]) -> None:
    """Write the episodes of parts, in their order, as one dataset at path; about becomes its collection.json.

    A label that only some parts have is NaN in the others. Raise DatasetError if path already holds a dataset.
    """
    readers = [DatasetReader(part, frames=False) for part in parts]  # frames would fill the memory
    sizes = {name: values.shape[1] for reader in readers for name, values in reader.labels.items()}
    writer = DatasetWriter(path, readers[0].spec, label_sizes=sizes)
    for part in parts:
        reader = DatasetReader(part)
        for index in range(len(reader.episodes)):
            writer.add(_with_labels(reader.episode(index), sizes))
    writer.finish(about)


def _with_labels(episode: Episode, sizes: Mapping[str, int]) -> Episode:
    absent = {name: np.full((len(episode), size), np.nan, np.float32) for name, size in sizes.items()}
    return replace(episode, labels={**absent, **episode.labels})

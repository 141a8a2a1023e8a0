"""The rows of one dataset as examples: what each of them shows, and what it asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError
from embodied.recording.reader import DatasetReader
from embodied.recording.soundness import require_sound
from embodied.types import Field
from policies.layout import Flags, Ids, Plan
from policies.lessons import Lessons
from policies.refusing import Sentences
from policies.samples import Array, Frames, Samples
from policies.vocabulary import Vocabulary


class Examples:
    """A dataset in the order of a plan's cameras and fields, which may be more than the dataset has."""

    def __init__(self, reader: DatasetReader, plan: Plan, vocabulary: Vocabulary) -> None:
        """Raise DatasetError for numbers that cannot be right, or that the plan has no bins for, naming file and row.

        Raise EmbodiedError for a label of another size than the plan's, for an instruction that is too long for it, and
        where there is nothing to learn.
        """
        require_sound(reader, plan.spec)
        _require_labels(reader, plan)
        self.reader, self.plan = reader, plan
        self._cameras = {camera.name for camera in reader.spec.cameras}
        self._instructions = [vocabulary.encode_text(text) for text in reader.instructions]
        texts = {text: vocabulary.encode_text(text) for text in set(reader.text) if text}
        self._texts = [texts.get(text, []) for text in reader.text]
        longest = max(map(len, self._instructions))
        if longest > plan.text_length:
            raise EmbodiedError(
                f"{reader.path}: an instruction has {longest} tokens; the plan takes {plan.text_length}"
            )
        self._state_columns = _columns(plan.spec.state, reader.spec.state)
        self._action_columns = _columns(plan.spec.action, reader.spec.action)
        self._said: dict[str, set[str]] = {}  # by task
        for episode in reader.episodes:  # whose rows may say several things
            said = {reader.instructions[i] for i in np.unique(reader.task_index[episode.start : episode.stop])}
            self._said.setdefault(episode.task, set()).update(said)
        self._lessons = Lessons(reader)
        self.training_rows, self.validation_rows = self._lessons.training_rows, self._lessons.validation_rows

    def __len__(self) -> int:
        return len(self.training_rows)

    @property
    def cameras(self) -> set[int]:
        """Return which of the plan's cameras the dataset has."""
        return {i for i, camera in enumerate(self.plan.spec.cameras) if camera.name in self._cameras}

    def others(self, row: int) -> Sentences:
        """Return what is said in the dataset's other tasks and never in a row's own: nothing where it has one task."""
        own = self._said[self.reader.episodes[self.reader.episode_index[row]].task]
        known = dict(zip(self.reader.instructions, self._instructions, strict=True))
        return [known[text] for text in sorted(set(known) - own)]

    def samples(self, rows: Ids, *, later: bool = False) -> Samples:
        """Return these rows; with later also what the first camera sees a chunk later."""
        reader, plan = self.reader, self.plan
        steps, asked = self._lessons.after(rows, plan.chunk)
        state, known = _take(reader.state[rows], self._state_columns)
        chunk, given = _take(reader.action[steps], self._action_columns)
        there = np.array([camera.name in self._cameras for camera in plan.spec.cameras], bool)
        past, remembered = self._past(rows)
        return Samples(
            instruction=[self._instructions[reader.task_index[row]] for row in rows],
            state=state,
            known=known,
            cameras=np.broadcast_to(there, (len(rows), len(there))),
            frames=[self._frames(index, rows) for index in range(len(there))],
            past=past,
            remembered=remembered,
            later=self._frames(0, steps[:, -1]) if later and len(there) else np.zeros((len(rows), 0, 0, 3), np.uint8),
            labels={n: reader.labels[n][rows] for label in plan.labels if (n := label.name) in reader.labels},
            chunk=chunk,
            supervised=asked[..., None] & given,
            text=[self._texts[row] for row in rows],
        )

    def _frames(self, camera: int, rows: NDArray[np.int64]) -> Frames:
        its = self.plan.spec.cameras[camera]
        if its.name not in self._cameras:
            return np.zeros((len(rows), its.height, its.width, 3), np.uint8)
        return self.reader.frames(its.name, rows)

    def _past(self, rows: Ids) -> tuple[Frames, Flags]:
        plan = self.plan
        back = rows[:, None] - plan.history_stride * (1 + np.arange(plan.history))
        remembered = back >= self._lessons.start[rows, None]
        if not plan.history or not plan.spec.cameras:
            return np.zeros((len(rows), plan.history, 0, 0, 3), np.uint8), np.zeros_like(remembered)
        its = plan.spec.cameras[0]
        past = np.zeros((len(rows), plan.history, its.height, its.width, 3), np.uint8)
        if its.name in self._cameras:
            past[remembered] = self._frames(0, back[remembered]) if remembered.any() else 0
        return past, remembered & (its.name in self._cameras)


def _require_labels(reader: DatasetReader, plan: Plan) -> None:
    for label in plan.labels:
        values = reader.labels.get(label.name)
        if values is None:
            continue
        if (size := values.shape[1]) != len(label.fields):
            raise EmbodiedError(
                f"{reader.path}: the label {label.name!r} has {size} numbers; the plan takes {len(label.fields)}"
            )


def _columns(wanted: Sequence[Field], there: Sequence[Field]) -> NDArray[np.int64]:
    """Return where each wanted field is among those that are there, -1 where it is not."""
    places = {field.name: index for index, field in enumerate(there)}
    return np.array([places.get(field.name, -1) for field in wanted], np.int64)


def _take(values: Array, columns: NDArray[np.int64]) -> tuple[Array, Flags]:
    """Return values (..., k) in the order of columns, 0 for those not there, and which are."""
    there = columns >= 0
    taken = np.zeros((*values.shape[:-1], len(columns)), np.float32)
    taken[..., there] = values[..., columns[there]]
    return taken, np.broadcast_to(there, taken.shape)

"""Demonstrations to training batches: any batch can be made from its number alone, so training resumes exactly."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from embodied.errors import EmbodiedError
from embodied.recording.reader import DatasetReader
from embodied.types import Field
from policies.layout import Label, Plan, Sequences, lay_out
from policies.vocabulary import Vocabulary

VALIDATION_EVERY = 50  # one episode in so many is held out


@dataclass(frozen=True)
class Batch:
    """Sequences and, a camera each in the spec's order, frames uint8 (B, H, W, 3)."""

    sequences: Sequences
    frames: list[Tensor]


class Examples:
    """The rows of a dataset as examples: an observation, the expert's next chunk, the labels, a text action."""

    def __init__(self, reader: DatasetReader, plan: Plan, vocabulary: Vocabulary) -> None:
        self._reader, self._plan = reader, plan
        self._instructions = [vocabulary.encode_text(text) for text in reader.instructions]
        texts = {text: vocabulary.encode_text(text) for text in set(reader.text) if text}
        self._texts = [texts.get(text, []) for text in reader.text]
        longest = max(map(len, self._instructions))
        if longest > plan.text_length:
            raise EmbodiedError(
                f"{reader.path}: an instruction has {longest} tokens; the plan takes {plan.text_length}"
            )
        self._stop = np.empty(len(reader), np.int64)
        held_out, taught = np.zeros(len(reader), bool), np.zeros(len(reader), bool)
        for episode in reader.episodes:
            self._stop[episode.start : episode.stop] = episode.stop
            held_out[episode.start : episode.stop] = episode.index % VALIDATION_EVERY == VALIDATION_EVERY - 1
            taught[episode.start : episode.stop] = episode.success
        taught |= reader.intervention  # an operator's corrections are right answers, however the episode ended
        if not taught.any():
            raise EmbodiedError(f"{reader.path}: every episode is marked as a failure; there is nothing to learn from")
        self._untaught = np.cumsum(~taught)
        self.training_rows, self.validation_rows = np.flatnonzero(taught & ~held_out), np.flatnonzero(taught & held_out)
        # Executed noise makes later expert actions answers to something the policy has not seen.
        self._noise = np.concatenate([[0], np.cumsum(reader.perturbed)])

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Make the batch of the given rows."""
        reader, plan = self._reader, self._plan
        ahead = rows[:, None] + np.arange(plan.chunk)
        steps = np.minimum(ahead, self._stop[rows, None] - 1)
        # Past the end nothing is known: taught to stay there, a policy stops just short of the goal.
        within = ahead == steps
        sequences = lay_out(
            plan,
            instruction=[self._instructions[reader.task_index[row]] for row in rows],
            state=reader.state[rows],
            labels={name: values[rows] for name, values in reader.labels.items()},
            chunk=reader.action[steps],
            supervised=within
            & (self._noise[steps] == self._noise[rows, None])
            & (self._untaught[steps] == self._untaught[rows, None]),
            text=[self._texts[row] for row in rows],
        )
        frames = [
            from_numpy(np.stack([reader.frame(camera.name, int(row)) for row in rows])) for camera in plan.spec.cameras
        ]
        return Batch(sequences, frames)

    def training(self, first: int, last: int, *, size: int, seed: int) -> Iterator[Batch]:
        """Yield the training batches numbered first to last, made ahead on a thread of their own."""

        def rows(number: int) -> NDArray[np.int64]:
            return np.random.default_rng([seed, number]).choice(self.training_rows, size)

        ahead: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=4)
        stop = threading.Event()

        def offer(item: Batch | BaseException | None) -> None:
            while not stop.is_set():  # a consumer that left takes nothing more
                with contextlib.suppress(queue.Full):
                    return ahead.put(item, timeout=0.2)

        def make() -> None:
            try:
                for number in range(first, last):
                    if stop.is_set():
                        return
                    offer(self.batch(rows(number)))
                offer(None)
            except BaseException as error:  # handed to the consumer, which raises it
                offer(error)

        threading.Thread(target=make, name="batches", daemon=True).start()
        try:
            while (got := ahead.get()) is not None:
                if isinstance(got, BaseException):
                    raise got
                yield got
        finally:
            stop.set()

    def validation(self, *, size: int, batches: int) -> Iterator[Batch]:
        """Yield the same held-out batches each time; none where the dataset is too small to hold out an episode."""
        if len(self.validation_rows):
            for number in range(batches):
                yield self.batch(np.random.default_rng([0, number]).choice(self.validation_rows, size))


def labels_of(reader: DatasetReader) -> tuple[Label, ...]:
    """Return the labels a dataset has, ranges taken from its own numbers with a margin of 5 %."""
    labels = []
    for name, values in sorted(reader.labels.items()):
        if not np.isfinite(values).any(0).all():
            continue  # never known
        low, high = np.nanmin(values, 0), np.nanmax(values, 0)
        margin = np.maximum(0.05 * (high - low), 1e-3)
        fields = zip(low - margin, high + margin, strict=True)
        labels.append(Label(name, tuple(Field(str(i), "", float(a), float(b)) for i, (a, b) in enumerate(fields))))
    return tuple(labels)

"""The chunks of a recording that a policy is taught, whole, of training episodes and of held-out ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError
from embodied.recording.reader import DatasetReader
from embodied.recording.soundness import require_sound
from policies.lessons import Lessons, Rows

FEWEST = 32  # to learn pairs from


class UnfitChunkError(EmbodiedError):
    """A chunk's length that a recording has no, or too few, chunks of; says how long its episodes are."""


@dataclass(frozen=True)
class ChunkSets:
    """Chunks float32 (n, steps, fields), one a row that has so many rows ahead; empty where no episode is held out."""

    training: NDArray[np.float32]
    held_out: NDArray[np.float32]
    episodes: int  # that the held-out ones are from


def chunks_of(reader: DatasetReader, steps: int) -> ChunkSets:
    """Cut every chunk of steps rows that lies in one episode and is taught throughout, as policies.lessons has it.

    Raise DatasetError for numbers that cannot be right, UnfitChunkError where there are too few chunks to learn from.
    """
    require_sound(reader)
    longest = max(e.stop - e.start for e in reader.episodes)
    if steps > longest:
        raise UnfitChunkError(
            f"a chunk of {steps} steps is longer than every episode of {reader.path}, of {longest} at most"
        )
    lessons = Lessons(reader)
    training, held_out = (_whole(lessons, rows, steps) for rows in (lessons.training_rows, lessons.validation_rows))
    if len(training) < FEWEST:
        raise UnfitChunkError(
            f"{reader.path} has {len(training)} chunks of {steps} steps to learn from, without noise and within one "
            f"successful episode; {FEWEST} are needed: a shorter chunk, or more demonstrations"
        )
    episodes = np.unique(reader.episode_index[held_out[:, 0]])
    return ChunkSets(reader.action[training], reader.action[held_out], len(episodes))


def _whole(lessons: Lessons, rows: Rows, steps: int) -> Rows:
    """Return the rows (n, steps) of each chunk that begins in one of rows and is to be learnt to its end."""
    following, right = lessons.after(rows, steps)
    return following[right.all(1)]

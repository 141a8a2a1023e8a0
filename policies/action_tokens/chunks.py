"""The chunks of a recording that a policy is taught, whole, of training episodes and of held-out ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError
from embodied.recording.episodes import EpisodeRange
from embodied.recording.reader import DatasetReader
from policies.examples import VALIDATION_EVERY

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
    """Cut every chunk of steps rows that lies in one episode and is taught throughout, as policies.examples has it.

    Raise EmbodiedError for an action that is not finite, UnfitChunkError where there are too few to learn from.
    """
    _check_finite(reader)
    longest = max(e.stop - e.start for e in reader.episodes)
    if steps > longest:
        raise UnfitChunkError(
            f"a chunk of {steps} steps is longer than every episode of {reader.path}, of {longest} at most"
        )
    found: dict[bool, list[NDArray[np.int64]]] = {False: [], True: []}
    for episode in reader.episodes:
        if len(starts := _starts(reader, episode, steps)):
            found[episode.index % VALIDATION_EVERY == VALIDATION_EVERY - 1].append(starts)
    training, held_out = (_cut(reader, starts, steps) for starts in found.values())
    if len(training) < FEWEST:
        raise UnfitChunkError(
            f"{reader.path} has {len(training)} chunks of {steps} steps to learn from, without noise and within one "
            f"successful episode; {FEWEST} are needed: a shorter chunk, or more demonstrations"
        )
    return ChunkSets(training, held_out, len(found[True]))


def _cut(reader: DatasetReader, starts: list[NDArray[np.int64]], steps: int) -> NDArray[np.float32]:
    rows = np.concatenate([np.empty(0, np.int64), *starts])
    chunks: NDArray[np.float32] = reader.action[rows[:, None] + np.arange(steps)]
    return chunks


def _starts(reader: DatasetReader, episode: EpisodeRange, steps: int) -> NDArray[np.int64]:
    """Return the rows of an episode whose chunk is whole, of right answers only, and undisturbed until its last."""
    rows = slice(episode.start, episode.stop)
    taught = reader.intervention[rows] | episode.success
    begins = np.arange(episode.stop - episode.start - steps + 1)
    # The last row's own noise comes after its action, and spoils none of the chunk.
    wrong = np.concatenate([[0], np.cumsum(~taught)])
    noise = np.concatenate([[0], np.cumsum(reader.perturbed[rows])])
    kept = (wrong[begins + steps] == wrong[begins]) & (noise[begins + steps - 1] == noise[begins])
    starts: NDArray[np.int64] = episode.start + begins[kept]
    return starts


def _check_finite(reader: DatasetReader) -> None:
    if len(bad := np.argwhere(~np.isfinite(reader.action))):
        row, field = bad[0]
        name, episode = reader.spec.action[field].name, reader.episode_index[row]
        raise EmbodiedError(
            f"{reader.path}: the action {name!r} is {reader.action[row, field]} in row {row} (episode {episode})"
        )

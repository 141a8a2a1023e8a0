"""Which rows of a dataset teach, which are held out, and how far what was done after a row is a right answer to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError
from embodied.recording.reader import DatasetReader

Rows = NDArray[np.int64]
VALIDATION_EVERY = 50  # one episode in so many is held out


class Lessons:
    """What there is to learn: the episodes that succeeded, and of the others what an operator did in a policy's place.

    An operator's corrections are right answers, however the episode ended. Of a scene only its labels are learnt.
    """

    def __init__(self, reader: DatasetReader) -> None:
        """Raise EmbodiedError where there is nothing to learn."""
        self.start, self._stop = np.empty(len(reader), np.int64), np.empty(len(reader), np.int64)  # of a row's episode
        held_out, taught = np.zeros(len(reader), bool), reader.intervention | reader.scene
        for episode in reader.episodes:
            rows = slice(episode.start, episode.stop)
            self.start[rows], self._stop[rows] = episode.start, episode.stop
            held_out[rows] = episode.index % VALIDATION_EVERY == VALIDATION_EVERY - 1
            taught[rows] |= episode.success
        if not taught.any():
            raise EmbodiedError(f"{reader.path}: every episode is marked as a failure; there is nothing to learn from")
        self.training_rows, self.validation_rows = np.flatnonzero(taught & ~held_out), np.flatnonzero(taught & held_out)
        if not len(self.training_rows):
            raise EmbodiedError(f"{reader.path}: all that succeeded is held out; there is nothing to learn from")
        self._untaught, self._scene = np.cumsum(~taught), reader.scene
        self._noise = np.concatenate([[0], np.cumsum(reader.perturbed)])

    def after(self, rows: Rows, steps: int) -> tuple[Rows, NDArray[np.bool_]]:
        """Return what was done in steps from each of rows on, as rows (B, steps), and whether each is to be learnt.

        Past the end, where the last row is repeated, nothing is: taught to stay there, a policy stops just short of the
        goal. Nor is what follows on executed noise, which answers something that the policy has not seen.
        """
        ahead = rows[:, None] + np.arange(steps)
        following = np.minimum(ahead, self._stop[rows, None] - 1)
        right = ahead == following
        right &= self._noise[following] == self._noise[rows, None]
        right &= self._untaught[following] == self._untaught[rows, None]
        right &= ~self._scene[rows, None]
        return following, right

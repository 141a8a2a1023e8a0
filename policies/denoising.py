"""Hides some of an observation, to be told by the model: Unified-IO 2's three ways, on frames, state and text.

[R] hides single tokens at random, [S] what comes after, [X] most of it in one piece (Lu et al. 2023, section 3.3). A
text is told in words, a state by value tokens, a frame as the mean colours of its cells: those hidden, for [S] those
of a chunk later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from policies.layout import COLOURS, UNSUPERVISED, Corruption, Flags, Ids, Plan
from policies.samples import Samples
from policies.values import encode_values
from policies.vocabulary import DENOISE_R, DENOISE_S, DENOISE_X, IMAGE, MASK, PAD, STATE, TEXT

MODES = (DENOISE_R, DENOISE_S, DENOISE_X)
RANDOM_SHARE = 0.3  # of tokens hidden by [R]; a frame's cells tell of each other, so more of them: see CELL_SHARE
CELL_SHARE = 0.5
SPAN_SHARE = 0.75  # hidden in one piece by [X]
GREY = 128


@dataclass(frozen=True)
class Denoising:
    """How often, and on what."""

    share: float = 0.0  # of a robot's examples
    modalities: tuple[int, ...] = (IMAGE, STATE, TEXT)

    def corrupt(
        self, plan: Plan, samples: Samples, random: Sequence[np.random.Generator]
    ) -> tuple[Samples, Corruption | None]:
        """Hide something that is there of a share of the samples, and return them with what there is to be told.

        random: a generator for each of them.
        """
        if not self.share or not plan.rebuild:
            return samples, None
        count = len(samples)
        mode, modality = self._choose(samples, random)
        state = np.zeros((count, len(plan.spec.state)), bool)
        cells = np.full((count, plan.rebuild**2, COLOURS), UNSUPERVISED, np.int64)
        said = [[] if gone else ids for gone, ids in zip(mode != PAD, samples.text, strict=True)]
        hidden = _Hidden(samples, list(samples.instruction), said)
        for row in np.flatnonzero(mode != PAD).tolist():
            rng = random[row]
            if modality[row] == STATE:
                known = np.flatnonzero(samples.known[row])
                state[row, known] = hide(int(mode[row]), len(known), RANDOM_SHARE, rng)
            elif modality[row] == TEXT:
                hidden.text(row, int(mode[row]), rng)
            else:
                cells[row] = hidden.frame(row, int(mode[row]), plan.rebuild, rng)
        return hidden.samples, Corruption(mode, modality, state, cells)

    def _choose(self, samples: Samples, random: Sequence[np.random.Generator]) -> tuple[Ids, Ids]:
        """Return how each sample is hidden, and what of it; PAD where nothing is."""
        amount: dict[int, Sequence[int]] = {
            IMAGE: samples.cameras[:, :1].sum(1),
            STATE: samples.known.sum(1),
            TEXT: [len(ids) for ids in samples.instruction],
        }
        mode, modality = np.full((2, len(samples)), PAD, np.int64)
        for row, rng in enumerate(random):
            possible = [m for m in self.modalities if amount[m][row]]
            if rng.random() < self.share and possible:
                mode[row], modality[row] = rng.choice(MODES), rng.choice(possible)
        return mode, modality


def hide(mode: int, length: int, share: float, rng: np.random.Generator) -> Flags:
    """Return which of length tokens, one or more, are hidden: at least one."""
    hidden = np.zeros(length, bool)
    if mode == DENOISE_R:
        hidden = rng.random(length) < share
        if not hidden.any():
            hidden[rng.integers(length)] = True
    elif mode == DENOISE_S:
        hidden[rng.integers(length) :] = True
    else:
        span = max(1, round(SPAN_SHARE * length))
        first = rng.integers(length - span + 1)
        hidden[first : first + span] = True
    return hidden


class _Hidden:
    """Samples as they become while some of them are hidden."""

    def __init__(self, samples: Samples, instruction: list[list[int]], text: list[list[int]]) -> None:
        self._samples, self._instruction, self._text = samples, instruction, text
        self._frames: NDArray[np.uint8] | None = None  # of the first camera, copied once something is hidden in it

    @property
    def samples(self) -> Samples:
        frames = [*self._samples.frames]
        if self._frames is not None:
            frames[0] = self._frames
        return replace(self._samples, instruction=self._instruction, text=self._text, frames=frames)

    def text(self, row: int, mode: int, rng: np.random.Generator) -> None:
        """Hide words of the instruction, and ask for all of it; [S] takes its end away, and asks for that."""
        ids = self._instruction[row]
        hidden = hide(mode, len(ids), RANDOM_SHARE, rng)
        if mode == DENOISE_S:
            first = int(hidden.argmax())
            self._instruction[row], self._text[row] = ids[:first], ids[first:]
        else:
            shown = [MASK if gone else token for token, gone in zip(ids, hidden, strict=True)]
            self._instruction[row], self._text[row] = shown, ids

    def frame(self, row: int, mode: int, side: int, rng: np.random.Generator) -> Ids:
        """Hide cells of the first camera's frame; return the bins of the colours that are asked for."""
        if mode == DENOISE_S:
            return colours(self._samples.later[row], side)
        frame = self._samples.frames[0][row]
        hidden = hide(mode, side * side, CELL_SHARE, rng)
        if self._frames is None:
            self._frames = self._samples.frames[0].copy()
        rows, columns = (np.arange(length) * side // length for length in frame.shape[:2])
        self._frames[row][hidden.reshape(side, side)[rows][:, columns]] = GREY
        return np.where(hidden[:, None], colours(frame, side), UNSUPERVISED)


def colours(frame: NDArray[np.uint8], side: int) -> Ids:
    """Return the bins (side², 3) of the mean colours of a frame's cells, row by row."""
    pixels = torch.from_numpy(frame).permute(2, 0, 1).float()
    means = adaptive_avg_pool2d(pixels, side).flatten(1).T.numpy()
    return encode_values(means, 0.0, 255.0)[0]

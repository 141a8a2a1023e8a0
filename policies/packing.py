"""Packs several examples into one row: a streaming best-fit packer, and where each of their tokens then stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.layout import Flags, Ids, Sequences

NOBODY = -1  # the segment of what is empty


@dataclass(frozen=True)
class Packing:
    """The row of each example, and at which of its tokens it begins."""

    row: Ids  # (E,)
    start: Ids  # (E,)
    rows: int
    width: int

    @property
    def room(self) -> int:
        """Return how many tokens the rows take, empty ones too."""
        return self.rows * self.width


def best_fit(lengths: Sequence[int] | Ids, width: int) -> Packing:
    """Put examples, as they come, into the fullest row that has room for them, else into a new one.

    Rows are as wide as the fullest of them. Raise ValueError for an example that is longer than width.
    """
    row, start = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    filled: list[int] = []
    for index, length in enumerate(int(n) for n in lengths):
        if length > width:
            raise ValueError(f"an example of {length} tokens does not fit a row of {width}")
        fits = [r for r, used in enumerate(filled) if used + length <= width]
        if not fits:
            filled.append(0)
        at = max(fits, key=lambda r: filled[r]) if fits else len(filled) - 1
        row[index], start[index] = at, filled[at]
        filled[at] += length
    return Packing(row, start, len(filled), max(filled, default=0))


@dataclass(frozen=True)
class Arrangement:
    """One index for all of a batch's parts: from their own (E, T) tokens to rows (B, L), and back."""

    sources: tuple[Tensor, ...]  # a part: which of its E·T tokens are placed
    places: tuple[Tensor, ...]  # and at which of the B·L
    shapes: tuple[tuple[int, int], ...]  # a part: (E, T)
    rows: int
    width: int
    segment: Tensor  # (B, L) whose token it is, NOBODY where there is none to be seen
    position: Tensor  # (B, L) its place in its own example
    prefix: Tensor  # (B, L) bool, whether all of its example sees it

    def gather(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the rows (B, L, width) of parts (E, T, width)."""
        width = parts[0].shape[-1]
        found = [x.reshape(-1, width)[source] for x, source in zip(parts, self.sources, strict=True)]
        rows = parts[0].new_zeros(self.rows * self.width, width)
        rows = rows.index_copy(0, torch.cat(self.places), torch.cat(found))
        return rows.view(self.rows, self.width, width)

    def scatter(self, rows: Tensor) -> list[Tensor]:
        """Return the parts (E, T, width) of rows (B, L, width), zeros where nothing was placed."""
        flat, width = rows.flatten(0, 1), rows.shape[-1]
        parts = []
        for source, place, (count, length) in zip(self.sources, self.places, self.shapes, strict=True):
            part = flat.new_zeros(count * length, width).index_copy(0, source, flat[place])
            parts.append(part.view(count, length, width))
        return parts

    @property
    def mask(self) -> Tensor:
        """Return (B, L, L), true where a token may look: at its own example's prefix and at what comes before."""
        same = (self.segment[:, :, None] == self.segment[:, None, :]) & (self.segment[:, None, :] != NOBODY)
        before = self.position[:, None, :] <= self.position[:, :, None]
        itself = torch.eye(self.width, dtype=torch.bool, device=same.device)  # so that no row is empty
        return same & (self.prefix[:, None, :] | before) | itself


def arrange(parts: Sequence[Sequences], packing: Packing | None, device: torch.device) -> Arrangement:
    """Return where the tokens of parts stand: packed without their padding, or one example a row with it."""
    count, longest = sum(len(s.tokens) for s in parts), max(s.tokens.shape[1] for s in parts)
    if packing is None:
        packing = Packing(np.arange(count), np.zeros(count, np.int64), count, longest)
        placed: list[Flags] = [np.ones_like(s.visible) for s in parts]
    else:
        placed = [s.visible for s in parts]
    rows = np.full((3, packing.room), 0, np.int64)  # segment, position, prefix
    rows[0] = NOBODY
    sources, places, first = [], [], 0
    for sequences, there in zip(parts, placed, strict=True):
        example, slot = np.nonzero(there)
        rank = (np.cumsum(there, 1) - 1)[example, slot]
        place = packing.row[first + example] * packing.width + packing.start[first + example] + rank
        rows[0, place] = np.where(sequences.visible[example, slot], first + example, NOBODY)
        rows[1, place], rows[2, place] = slot, slot < sequences.prefix
        sources.append(_tensor(example * there.shape[1] + slot, device))
        places.append(_tensor(place, device))
        first += len(there)
    segment, position, prefix = _tensor(rows, device).view(3, packing.rows, packing.width)
    shapes = tuple((int(s.tokens.shape[0]), int(s.tokens.shape[1])) for s in parts)
    return Arrangement(
        tuple(sources), tuple(places), shapes, packing.rows, packing.width, segment, position, prefix.bool()
    )


def _tensor(numbers: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(numbers).to(device)

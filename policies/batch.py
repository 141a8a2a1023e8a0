"""A batch: examples of one or several embodiments, and of plain text, that share the trunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from policies.layout import Plan, Sequences
from policies.packing import Packing, best_fit


@dataclass(frozen=True)
class Part:
    """Examples of one embodiment; of none where plan is None: plain text."""

    plan: Plan | None
    sequences: Sequences
    frames: list[Tensor]  # a camera in the spec's order: uint8 (E, H, W, 3); where it lacks one nobody looks
    past: Tensor | None = None  # uint8 (E, history, H, W, 3), the latest first
    said: Tensor | None = None  # (E, text_length, vision width) of PolicyModel.read, where it was read before

    def __len__(self) -> int:
        return len(self.sequences.tokens)


@dataclass(frozen=True)
class Batch:
    """Parts, and the rows that their examples are packed into; one example a row, padded, where there are none."""

    parts: tuple[Part, ...]
    packing: Packing | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def tokens(self) -> int:
        """Return how many tokens there are, padding left out."""
        return sum(int(part.sequences.visible.sum()) for part in self.parts)

    @property
    def room(self) -> int:
        """Return how many tokens the trunk works on, padding too."""
        longest = max(part.sequences.tokens.shape[1] for part in self.parts)
        return self.packing.room if self.packing else len(self) * longest


def pack(parts: Sequence[Part], width: int) -> Batch:
    """Return a batch whose examples are packed into rows of at most width tokens; 0: padded, one a row.

    A row is never narrower than the longest example.
    """
    if not width:
        return Batch(tuple(parts))
    lengths = np.concatenate([part.sequences.visible.sum(1) for part in parts])
    return Batch(tuple(parts), best_fit(lengths, max(width, int(lengths.max()))))

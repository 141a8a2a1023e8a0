"""Ids to embeddings, and hidden states to logits, by one table, whose value tokens begin alike their neighbours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.values import BINS
from policies.vocabulary import FIRST_TEXT, FIRST_VALUE


class Embedding(nn.Embedding):
    """A table (ids, width) trained from scratch."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(size, width)
        with torch.no_grad():
            self.weight.mul_(0.02)
            self.weight[FIRST_VALUE:FIRST_TEXT] += 0.1 * fourier(BINS, width)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (..., ids) in float32."""
        return functional.linear(hidden, self.weight.to(hidden.dtype)).float()


def fourier(count: int, width: int) -> Tensor:
    """Return (count, width): smooth features of a bin's centre, so that neighbouring bins begin alike."""
    centre = (torch.arange(count) + 0.5) / count
    angles = centre[:, None] * torch.pi * torch.arange(1, width // 2 + 1)
    features: Tensor = torch.cat([angles.sin(), angles.cos()], 1) * (2.0 / width) ** 0.5
    return features

"""What training minimises: cross-entropy with neighbouring bins counted near, and the distance of the mean bin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from policies.layout import UNSUPERVISED, Sequences
from policies.model import Answers
from policies.values import BINS

SPREAD_BINS = 3.0  # deviation of the target's Gaussian (HL-Gauss, Farebrother et al. 2024)
DISTANCE_WEIGHT = 20.0  # a mean off by 5 % of the range weighs as much as one nat


@dataclass(frozen=True)
class Losses:
    """Means over what is supervised; total is what to minimise."""

    pose: Tensor
    locate: Tensor
    text: Tensor

    @property
    def total(self) -> Tensor:
        """Return the sum, the labels and the text as auxiliaries."""
        return self.pose + 0.5 * self.locate + 0.1 * self.text


def compute_losses(answers: Answers, sequences: Sequences) -> Losses:
    """Return the losses of a batch's answers."""
    text_targets = torch.from_numpy(sequences.text_targets)
    text = functional.cross_entropy(answers.text.flatten(0, 1), text_targets.flatten(), ignore_index=UNSUPERVISED)
    return Losses(
        pose=_value_loss(answers.pose, torch.from_numpy(sequences.pose_targets)),
        locate=_value_loss(answers.locate, torch.from_numpy(sequences.locate_targets)),
        text=torch.nan_to_num(text),  # no text in the batch
    )


def mean_bins(logits: Tensor) -> Tensor:
    """Return the mean bin, float (...), of each distribution (..., 1000)."""
    return logits.softmax(-1) @ torch.arange(BINS, dtype=logits.dtype)


def _value_loss(logits: Tensor, targets: Tensor) -> Tensor:
    asked = (targets != UNSUPERVISED).float()
    bins = targets.clamp(min=0)
    log_likely = logits.log_softmax(-1)
    near = (bins[..., None] + _OFFSETS).clamp(0, BINS - 1)
    entropy = -(log_likely.gather(-1, near) @ _WEIGHTS)
    distance = (log_likely.exp() @ _CENTRES - bins).abs() / BINS
    return ((entropy + DISTANCE_WEIGHT * distance) * asked).sum() / asked.sum().clamp(min=1.0)


_CENTRES = torch.arange(BINS, dtype=torch.float32)
_OFFSETS = torch.arange(-round(3 * SPREAD_BINS), round(3 * SPREAD_BINS) + 1)
_WEIGHTS = (-0.5 * (_OFFSETS / SPREAD_BINS) ** 2).softmax(-1)

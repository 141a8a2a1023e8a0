"""What training minimises: cross-entropy with neighbouring bins counted near, and the distance of the mean bin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from policies.layout import UNSUPERVISED, Plan, Sequences
from policies.model import Answers
from policies.values import BINS, decode_values, ranges

SPREAD_BINS = 3.0  # deviation of the target's Gaussian (HL-Gauss, Farebrother et al. 2024)
NEAR_BINS = 15
DISTANCE_WEIGHT = 20.0  # a mean off by 5 % of the range weighs as much as one nat


@dataclass(frozen=True)
class Losses:
    """Means over what is supervised; total is what to minimise."""

    pose: Tensor
    locate: Tensor
    text: Tensor
    look: Tensor

    @property
    def total(self) -> Tensor:
        """Return the sum, the labels, the text and the gaze as auxiliaries."""
        return self.pose + 0.5 * self.locate + 0.1 * self.text + 0.2 * self.look


def compute_losses(plan: Plan, answers: Answers, sequences: Sequences) -> Losses:
    """Return the losses of a batch's answers."""
    text_targets = torch.from_numpy(sequences.text_targets)
    text = functional.cross_entropy(answers.text.flatten(0, 1), text_targets.flatten(), ignore_index=UNSUPERVISED)
    return Losses(
        pose=_value_loss(answers.pose, torch.from_numpy(sequences.pose_targets)),
        locate=_value_loss(answers.locate, torch.from_numpy(sequences.locate_targets)),
        text=torch.nan_to_num(text),  # no text in the batch
        look=_look_loss(plan, answers.looked[0], sequences) if answers.looked else torch.zeros(()),
    )


def mean_bins(logits: Tensor) -> Tensor:
    """Return the mean bin, float (...), of each distribution (..., 1000)."""
    return logits.softmax(-1) @ torch.arange(BINS, dtype=logits.dtype)


def likely_bins(logits: Tensor) -> Tensor:
    """Return the mean bin, float (...), around the likeliest one of each distribution (..., 1000).

    Where two answers are likely, as to push on or to begin anew, their mean would be neither.
    """
    bins = torch.arange(BINS, device=logits.device)
    near = (bins - logits.argmax(-1, keepdim=True)).abs() <= NEAR_BINS
    return mean_bins(logits.masked_fill(~near, float("-inf")))


def _value_loss(logits: Tensor, targets: Tensor) -> Tensor:
    asked = (targets != UNSUPERVISED).float()
    bins = targets.clamp(min=0)
    log_likely = logits.log_softmax(-1)
    near = (bins[..., None] + _OFFSETS).clamp(0, BINS - 1)
    entropy = -(log_likely.gather(-1, near) @ _WEIGHTS)
    distance = (log_likely.exp() @ _CENTRES - bins).abs() / BINS
    loss, asked = ((entropy + DISTANCE_WEIGHT * distance) * asked).flatten(1).sum(1), asked.flatten(1).sum(1)
    # A mean of each example's mean: one of which a single step is known weighs as much as one of a whole chunk.
    return (loss / asked.clamp(min=1.0)).sum() / (asked > 0).sum().clamp(min=1)


def _look_loss(plan: Plan, looked: Tensor, sequences: Sequences) -> Tensor:
    """Return how surprised one is that the first camera's image tokens look into the labelled boxes.

    The first token is held to the first label called *_box, the second to the second: localisation then begins at
    once, where from the answers alone it takes thousands of steps to begin.
    """
    slots = [slot for slot, label in enumerate(plan.labels) if label.name.endswith("_box")][: looked.shape[1]]
    camera = plan.spec.cameras[0]
    rows, columns = _grid(looked.shape[-1], camera.width / camera.height)
    losses = []
    for token, slot in enumerate(slots):
        bins = sequences.locate_targets[:, slot, :4]
        known = torch.from_numpy((bins != UNSUPERVISED).all(-1).astype("float32"))
        boxes = torch.from_numpy(decode_values(bins, *ranges(plan.labels[slot].fields))).float()
        inside = looked[:, token] @ _cells(boxes, rows, columns)[..., None]
        surprise = -(inside.squeeze(-1) + 1e-6).log().mean(-1)
        losses.append((surprise * known).sum() / known.sum().clamp(min=1.0))
    return torch.stack(losses).mean() if losses else torch.zeros(())


def _grid(cells: int, aspect: float) -> tuple[int, int]:
    """Return the (rows, columns) of that many cells whose columns / rows come nearest to aspect."""
    shapes = [(rows, cells // rows) for rows in range(1, cells + 1) if cells % rows == 0]
    return min(shapes, key=lambda shape: abs(math.log(shape[1] / shape[0] / aspect)))


def _cells(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """Return (B, rows·columns): 1 for the cells that boxes (B, 4), y1 x1 y2 x2 as fractions, touch, else 0."""
    row, column = torch.arange(rows), torch.arange(columns)
    down = (row + 1 > boxes[:, :1] * rows) & (row < boxes[:, 2:3] * rows)
    across = (column + 1 > boxes[:, 1:2] * columns) & (column < boxes[:, 3:] * columns)
    return (down[:, :, None] & across[:, None, :]).flatten(1).float()


_CENTRES = torch.arange(BINS, dtype=torch.float32)
_OFFSETS = torch.arange(-round(3 * SPREAD_BINS), round(3 * SPREAD_BINS) + 1)
_WEIGHTS = (-0.5 * (_OFFSETS / SPREAD_BINS) ** 2).softmax(-1)

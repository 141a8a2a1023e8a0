"""What training minimises: cross-entropy with neighbouring bins counted near, and the distance of the mean bin.

Every term is a sum over a batch, divided by a count that the targets alone tell. So what parts of a batch give, on
other processes or one after the other, adds up to what the whole gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from policies.batch import Batch, Part
from policies.layout import UNSUPERVISED, Flags, Plan, Sequences
from policies.model import Answers
from policies.values import BINS, decode_values, ranges

NEAR_BINS = 15
DISTANCE_WEIGHT = 20.0  # a mean off by 5 % of the range weighs as much as one nat


@dataclass(frozen=True)
class Objective:
    """What each term weighs, and how far a target spreads over the bins beside it."""

    pose: float = 1.0
    locate: float = 0.5
    text: float = 0.1
    look: float = 0.2
    state: float = 0.1  # denoised numbers of the state,
    cells: float = 0.1  # and cells of frames
    z: float = 0.0  # of the squared log of a softmax's sum (PaLM, Chowdhery et al. 2022, weighs it 1e-4)
    spread_bins: float = 3.0  # deviation of the target's Gaussian (HL-Gauss, Farebrother et al. 2024); 0: none

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each term."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spread_bins"}


@dataclass(frozen=True)
class Losses:
    """Means over what is supervised, and their weighted sum, which is what to minimise."""

    total: Tensor
    terms: dict[str, Tensor]


def count(batch: Batch) -> dict[str, int]:
    """Return, for each term, how much of it is supervised in a batch: what its sum is divided by."""
    found: Counter[str] = Counter()
    for part in batch.parts:
        sequences = part.sequences
        values = {
            "pose": sequences.pose_targets,
            "locate": sequences.locate_targets,
            "state": sequences.state_targets,
            "cells": sequences.cell_targets,
        }
        asked = {name: (targets != UNSUPERVISED).reshape(len(targets), -1) for name, targets in values.items()}
        found.update({name: int(there.any(1).sum()) for name, there in asked.items()})
        found["text"] += int((sequences.text_targets != UNSUPERVISED).sum())
        found["z"] += int((sequences.text_targets != UNSUPERVISED).sum()) + sum(int(a.sum()) for a in asked.values())
        if part.plan is not None:
            found["look"] += sum(int(_known_box(part.plan, sequences, gaze).sum()) for gaze in _gazes(part.plan))
    return dict(found)


def compute_losses(
    batch: Batch,
    answers: Sequence[Answers],
    objective: Objective | None = None,
    counts: Mapping[str, int] | None = None,
) -> Losses:
    """Return the losses of a batch's answers; counts are those of the whole batch where this is only some of it."""
    objective = objective or Objective()
    counts = counts or count(batch)
    sums: dict[str, Tensor] = {}
    for part, answer in zip(batch.parts, answers, strict=True):
        for name, value in _sums(part, answer, objective).items():
            sums[name] = sums[name] + value if name in sums else value
    terms = {name: value / max(1, counts[name]) for name, value in sums.items()}
    weights = objective.weights
    return Losses(torch.stack([weights[name] * value for name, value in terms.items()]).sum(), terms)


def mean_bins(logits: Tensor) -> Tensor:
    """Return the mean bin, float (...), of each distribution (..., 1000)."""
    return logits.softmax(-1) @ torch.arange(BINS, dtype=logits.dtype, device=logits.device)


def likely_bins(logits: Tensor) -> Tensor:
    """Return the mean bin, float (...), around the likeliest one of each distribution (..., 1000).

    Where two answers are likely, as to push on or to begin anew, their mean would be neither.
    """
    offsets = torch.arange(-NEAR_BINS, NEAR_BINS + 1, device=logits.device)
    near = logits.argmax(-1, keepdim=True) + offsets
    there = (near >= 0) & (near < BINS)
    likely = logits.gather(-1, near.clamp(0, BINS - 1)).masked_fill(~there, float("-inf")).softmax(-1)
    return (likely * near).sum(-1)


def quantile_bins(logits: Tensor, shares: Tensor) -> Tensor:
    """Return the bin, int64 (...), below or in which the given share (...) of each distribution (..., 1000) lies."""
    below = logits.softmax(-1).cumsum(-1) < shares[..., None]
    return below.sum(-1).clamp(max=BINS - 1)  # where sums are rounded to less than one


def _sums(part: Part, answer: Answers, objective: Objective) -> dict[str, Tensor]:
    sequences, device = part.sequences, answer.text.device
    text_targets = torch.from_numpy(sequences.text_targets).to(device)
    text = functional.cross_entropy(
        answer.text.flatten(0, 1), text_targets.flatten(), ignore_index=UNSUPERVISED, reduction="sum"
    )
    read = {
        "pose": (answer.pose, sequences.pose_targets),
        "locate": (answer.locate, sequences.locate_targets),
        "state": (answer.state, sequences.state_targets),
        "cells": (answer.cells, sequences.cell_targets),
    }
    values = {
        name: (logits, torch.from_numpy(targets).to(device))
        for name, (logits, targets) in read.items()
        if logits is not None and logits.numel()
    }
    sums = {name: _value_loss(*value, objective.spread_bins) for name, value in values.items()}
    sums["text"] = text
    if part.plan is not None and answer.looked:
        sums["look"] = _look_loss(part.plan, answer.looked, sequences)
    if objective.z:
        asked = [logits[targets != UNSUPERVISED] for logits, targets in values.values()]
        sums["z"] = sum((_z_loss(x) for x in [*asked, answer.text[text_targets != UNSUPERVISED]]), text.new_zeros(()))
    return sums


def _z_loss(logits: Tensor) -> Tensor:
    return logits.logsumexp(-1).square().sum()


def _value_loss(logits: Tensor, targets: Tensor, spread_bins: float) -> Tensor:
    asked = (targets != UNSUPERVISED).float()
    bins = targets.clamp(min=0)
    offsets, weights = spread_target(spread_bins, logits.device)
    log_likely = logits.log_softmax(-1)
    near = (bins[..., None] + offsets).clamp(0, BINS - 1)
    entropy = -(log_likely.gather(-1, near) @ weights)
    centres = torch.arange(BINS, dtype=torch.float32, device=logits.device)
    distance = (log_likely.exp() @ centres - bins).abs() / BINS
    loss, asked = ((entropy + DISTANCE_WEIGHT * distance) * asked).flatten(1).sum(1), asked.flatten(1).sum(1)
    # Each example's mean: one of which a single step is known weighs as much as one of a whole chunk.
    return (loss / asked.clamp(min=1.0)).sum()


def spread_target(deviation: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the bins around a target, as offsets, and the share of the target that each has."""
    reach = round(3 * deviation)
    offsets = torch.arange(-reach, reach + 1, device=device)
    return offsets, (-0.5 * (offsets / max(deviation, 1e-6)) ** 2).softmax(-1)


def _look_loss(plan: Plan, looked: Sequence[Tensor], sequences: Sequences) -> Tensor:
    """Return how surprised one is that image tokens look into the labelled boxes, summed.

    A camera's first token is held to the first label of a box in its frame, the second to the second: localisation then
    begins at once, where from the answers alone it takes thousands of steps to begin.
    """
    surprise = looked[0].new_zeros(())
    for gaze in _gazes(plan):
        seen = looked[gaze.camera][:, gaze.token]
        known = torch.from_numpy(_known_box(plan, sequences, gaze).astype("float32")).to(seen.device)
        bins = sequences.locate_targets[:, gaze.slot, :4]
        boxes = torch.from_numpy(decode_values(bins, *ranges(plan.labels[gaze.slot].fields))).float().to(seen.device)
        inside = (seen * _cells(boxes, *seen.shape[-2:])[:, None]).sum((-2, -1))
        surprise = surprise + (-(inside + 1e-6).log().mean(-1) * known).sum()
    return surprise


class _Gaze(NamedTuple):
    """Which camera's which image token is held to which label."""

    camera: int
    token: int
    slot: int


def _gazes(plan: Plan) -> list[_Gaze]:
    """Return who looks where: a label *_box lies in the first camera's frame, *_box_NAME in that of camera NAME."""
    found = []
    for camera, its in enumerate(plan.spec.cameras):
        ending = f"_box_{its.name}" if camera else "_box"
        boxes = [slot for slot, label in enumerate(plan.labels) if label.name.endswith(ending)]
        found += [_Gaze(camera, token, slot) for token, slot in enumerate(boxes[: plan.latents])]
    return found


def _known_box(plan: Plan, sequences: Sequences, gaze: _Gaze) -> Flags:
    """Return (B,), whether there is such a box, and a frame of its camera to look at."""
    known: Flags = (sequences.locate_targets[:, gaze.slot, :4] != UNSUPERVISED).all(-1)
    return known & sequences.visible[:, plan.images[gaze.camera].start]


def _cells(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """Return (B, rows, columns): 1 for the cells that boxes (B, 4), y1 x1 y2 x2 as fractions, touch, else 0."""
    row, column = torch.arange(rows, device=boxes.device), torch.arange(columns, device=boxes.device)
    down = (row + 1 > boxes[:, :1] * rows) & (row < boxes[:, 2:3] * rows)
    across = (column + 1 > boxes[:, 1:2] * columns) & (column < boxes[:, 3:] * columns)
    return (down[:, :, None] & across[:, None, :]).float()

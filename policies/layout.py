"""The one function that lays a token sequence out, for training and for acting, and says what is supervised.

    <bos> instruction <image> frame.. <image> frame.. <state> v.. <locate> query.. <pose> query.. | <text> t.. <eos>
    ------------------------------ prefix: every token sees every token --------------------------| causal

Each <query> slot is read as several value tokens at once: a <locate> slot as one label (a position, a box), a
<pose> slot as one step of the chunk, a value token a field. A text action is then written token by token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.types import Field, RobotSpec
from policies.values import encode_values, ranges
from policies.vocabulary import BOS, EOS, FIRST_VALUE, FRAME, IMAGE, LOCATE, PAD, POSE, QUERY, STATE, TEXT

Ids = NDArray[np.int64]
UNSUPERVISED = -1


@dataclass(frozen=True)
class Label:
    """A quantity only a simulator knows, predicted as value tokens and never given as input."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Plan:
    """What every sequence of one checkpoint has in common: how many slots of which kind."""

    spec: RobotSpec
    labels: tuple[Label, ...]
    chunk: int  # steps of a pose answer
    text_length: int  # tokens an instruction may take
    latents: int  # image tokens a camera

    @property
    def images(self) -> list[slice]:
        """The slots of each camera's image tokens, in the spec's order."""
        first = 1 + self.text_length
        starts = [first + i * (1 + self.latents) + 1 for i in range(len(self.spec.cameras))]
        return [slice(s, s + self.latents) for s in starts]

    @property
    def text(self) -> slice:
        """The slots of the instruction."""
        return slice(1, 1 + self.text_length)

    @property
    def state(self) -> slice:
        """The slots of the state's value tokens."""
        start = 1 + self.text_length + len(self.spec.cameras) * (1 + self.latents) + 1
        return slice(start, start + len(self.spec.state))

    @property
    def locate(self) -> slice:
        """The query slots of the labels."""
        return slice(self.state.stop + 1, self.state.stop + 1 + len(self.labels))

    @property
    def pose(self) -> slice:
        """The query slots of the chunk's steps."""
        return slice(self.locate.stop + 1, self.locate.stop + 1 + self.chunk)

    @property
    def prefix(self) -> int:
        """The number of tokens before the causal part."""
        return int(self.pose.stop)


@dataclass(frozen=True)
class Sequences:
    """A batch of token sequences; ids and bins are int64."""

    tokens: Ids  # (B, T)
    visible: NDArray[np.bool_]  # (B, T) false at padding
    outside: NDArray[np.bool_]  # (B, n) state numbers that lay out of their field's range
    locate_targets: Ids  # (B, labels, width) bins, UNSUPERVISED where nothing is asked
    pose_targets: Ids  # (B, chunk, n) bins, UNSUPERVISED where nothing is asked
    text_targets: Ids  # (B, T - prefix) the token after each one of the causal part


def lay_out(
    plan: Plan,
    *,
    instruction: list[list[int]],
    state: NDArray[Any],
    labels: Mapping[str, NDArray[Any]] | None = None,
    chunk: NDArray[Any] | None = None,
    supervised: NDArray[np.bool_] | None = None,
    text: list[list[int]] | None = None,
) -> Sequences:
    """Lay out a batch of B sequences.

    instruction: B lists of text ids, each at most plan.text_length. state: (B, n) in the spec's units. Training adds
    labels {name: (B, k)}, chunk (B, steps, n) with supervised (B, steps) telling which steps to learn from, and text,
    B lists of text ids, the text action; an empty one is not supervised. NaN in a label leaves it unsupervised.
    """
    count = len(instruction)
    longest = max((len(t) for t in text), default=0) if text is not None else -2
    tokens = np.full((count, plan.prefix + longest + 2), PAD, np.int64)
    _write_prefix(plan, tokens, instruction)
    state_bins, outside = encode_values(state, *ranges(plan.spec.state))
    tokens[:, plan.state] = FIRST_VALUE + state_bins
    text_targets = np.full((count, longest + 2), UNSUPERVISED, np.int64)
    for row, ids in enumerate(text or []):
        answer = [TEXT, *ids, EOS]
        tokens[row, plan.prefix : plan.prefix + len(answer)] = answer
        if ids:
            text_targets[row, : len(answer) - 1] = answer[1:]
    return Sequences(
        tokens=tokens,
        visible=tokens != PAD,
        outside=outside,
        locate_targets=_locate_targets(plan, labels or {}, count),
        pose_targets=_pose_targets(plan, chunk, supervised, count),
        text_targets=text_targets,
    )


def _write_prefix(plan: Plan, tokens: Ids, instruction: list[list[int]]) -> None:
    tokens[:, 0] = BOS
    for row, ids in enumerate(instruction):
        tokens[row, plan.text.start : plan.text.start + len(ids)] = ids
    for slots in plan.images:
        tokens[:, slots.start - 1] = IMAGE
        tokens[:, slots] = FRAME
    for slots, mode in ((plan.state, STATE), (plan.locate, LOCATE), (plan.pose, POSE)):
        tokens[:, slots.start - 1] = mode
    tokens[:, plan.locate] = QUERY
    tokens[:, plan.pose] = QUERY


def _locate_targets(plan: Plan, labels: Mapping[str, NDArray[Any]], count: int) -> Ids:
    width = max((len(label.fields) for label in plan.labels), default=0)
    targets = np.full((count, len(plan.labels), width), UNSUPERVISED, np.int64)
    for slot, label in enumerate(plan.labels):
        if label.name in labels:
            values = np.asarray(labels[label.name], np.float64)
            known = np.isfinite(values)
            bins, _ = encode_values(np.where(known, values, label.fields[0].low), *ranges(label.fields))
            targets[:, slot, : len(label.fields)] = np.where(known, bins, UNSUPERVISED)
    return targets


def _pose_targets(plan: Plan, chunk: NDArray[Any] | None, supervised: NDArray[np.bool_] | None, count: int) -> Ids:
    if chunk is None:
        return np.full((count, plan.chunk, len(plan.spec.action)), UNSUPERVISED, np.int64)
    bins, _ = encode_values(chunk, *ranges(plan.spec.action))
    return bins if supervised is None else np.where(supervised[..., None], bins, UNSUPERVISED)

"""The one function that lays a token sequence out, for training and for acting, and says what is supervised.

    <bos> instruction <image> frame.. <image> frame.. <state> v.. <locate> query.. <pose> query.. [..]| <text> t.. <eos>
    ------------------------- prefix: every token sees every token -----------------------------------| causal

Each <query> slot is read as several value tokens at once: a <locate> slot as one label (a position, a box), a
<pose> slot as one step of the chunk, a value token a field. A text action is then written token by token.

[..] is what a plan may have beside: `<history> frame..` for each earlier frame, and `<denoise-?> modality <rebuild>
query..` for examples that only tell what was hidden. Slots that an example does not use are padding, which nobody sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.types import Field, RobotSpec
from policies.values import encode_values, ranges
from policies.vocabulary import (
    BOS,
    EOS,
    FIRST_VALUE,
    FRAME,
    HISTORY,
    IMAGE,
    LOCATE,
    MASK,
    PAD,
    POSE,
    QUERY,
    REBUILD,
    STATE,
    TEXT,
)

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
UNSUPERVISED = -1
COLOURS = 3  # numbers that a cell of a frame is rebuilt as


@dataclass(frozen=True)
class Label:
    """A quantity only a simulator knows, predicted as value tokens and never given as input."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Plan:
    """What every sequence of one embodiment has in common: how many slots of which kind."""

    spec: RobotSpec
    labels: tuple[Label, ...]
    chunk: int  # steps of a pose answer
    text_length: int  # tokens an instruction may take
    latents: int  # image tokens a camera
    history: int = 0  # earlier frames of the first camera,
    history_stride: int = 3  # so many steps apart,
    history_latents: int = 2  # image tokens each
    rebuild: int = 0  # cells a side of a frame that is rebuilt; 0: nothing is denoised

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
    def past(self) -> list[slice]:
        """The slots of each earlier frame's image tokens, the latest first."""
        starts = [self.pose.stop + i * (1 + self.history_latents) + 1 for i in range(self.history)]
        return [slice(s, s + self.history_latents) for s in starts]

    @property
    def mode(self) -> slice:
        """The slots that say what an example is to denoise: how it was hidden, and which modality."""
        start = self.pose.stop + self.history * (1 + self.history_latents)
        return slice(start, start + (2 if self.rebuild else 0))

    @property
    def cells(self) -> slice:
        """The query slots of a frame's cells, row by row."""
        start = self.mode.stop + (1 if self.rebuild else 0)
        return slice(start, start + self.rebuild**2)

    @property
    def prefix(self) -> int:
        """The number of tokens before the causal part."""
        return int(self.cells.stop)


@dataclass(frozen=True)
class Corruption:
    """What was hidden of each of B examples, to be told by the model."""

    mode: Ids  # (B,) DENOISE_R, DENOISE_S or DENOISE_X; PAD: an ordinary example
    modality: Ids  # (B,) IMAGE, STATE or TEXT
    state: Flags  # (B, n) the numbers of the state that are hidden
    cells: Ids  # (B, cells, 3) bins of the colours to be told, UNSUPERVISED where nothing is asked


@dataclass(frozen=True)
class Sequences:
    """A batch of token sequences; ids and bins are int64."""

    tokens: Ids  # (B, T)
    visible: Flags  # (B, T) false at padding
    prefix: int  # tokens before the causal part
    outside: Flags  # (B, n) state numbers that lay out of their field's range
    locate_targets: Ids  # (B, labels, width) bins, UNSUPERVISED where nothing is asked
    pose_targets: Ids  # (B, chunk, n) bins, UNSUPERVISED where nothing is asked
    text_targets: Ids  # (B, T - prefix) the token after each one of the causal part
    state_targets: Ids  # (B, n) bins of what is hidden of the state, else UNSUPERVISED
    cell_targets: Ids  # (B, cells, 3) bins of colours, UNSUPERVISED where nothing is asked


@dataclass(frozen=True)
class Gaps:
    """What B examples lack; what is None is all there."""

    cameras: Flags | None = None  # (B, cameras) true where there is a frame
    state: Flags | None = None  # (B, n) true where the number is known
    past: Flags | None = None  # (B, history) true where there was a frame


def lay_out(
    plan: Plan,
    *,
    instruction: list[list[int]],
    state: NDArray[Any],
    labels: Mapping[str, NDArray[Any]] | None = None,
    chunk: NDArray[Any] | None = None,
    supervised: Flags | None = None,
    text: list[list[int]] | None = None,
    gaps: Gaps | None = None,
    corruption: Corruption | None = None,
) -> Sequences:
    """Lay out a batch of B sequences.

    instruction: B lists of text ids, each at most plan.text_length. state: (B, n) in the spec's units. Training adds
    labels {name: (B, k)}, chunk (B, steps, n) with supervised (B, steps) or (B, steps, n) telling what to learn from,
    and text, B lists of text ids, the text action; an empty one is not supervised. A number of a label that is NaN
    or beyond its range is not either. gaps tells what examples lack, corruption what was hidden of them.
    """
    count, gaps = len(instruction), gaps or Gaps()
    tokens, text_targets = _write_text(plan, count, text)
    _write_prefix(plan, tokens, instruction)
    _write_more(plan, tokens, gaps, corruption)
    known = np.ones((count, len(plan.spec.state)), bool) if gaps.state is None else gaps.state
    low, high = ranges(plan.spec.state)
    state_bins, outside = encode_values(np.where(known, state, low), low, high)
    hidden = np.zeros_like(known) if corruption is None else corruption.state & known
    tokens[:, plan.state] = np.where(hidden, MASK, np.where(known, FIRST_VALUE + state_bins, PAD))
    pose_targets = _asked(corruption, _pose_targets(plan, chunk, supervised, count))
    if chunk is not None:  # who is taught no action, as of a scene, is not asked for one either
        tokens[(pose_targets == UNSUPERVISED).all((1, 2)), plan.pose.start - 1 : plan.pose.stop] = PAD
    return Sequences(
        tokens=tokens,
        visible=tokens != PAD,
        prefix=plan.prefix,
        outside=outside,
        locate_targets=_asked(corruption, _locate_targets(plan, labels or {}, count)),
        pose_targets=pose_targets,
        text_targets=text_targets,
        state_targets=np.where(hidden, state_bins, UNSUPERVISED),
        cell_targets=_cell_targets(plan, corruption, count),
    )


def lay_out_text(prompts: list[list[int]], answers: list[list[int]]) -> Sequences:
    """Lay out B texts without a robot: a prompt in the prefix, its answer token by token."""
    count, longest = len(prompts), max(map(len, prompts))
    written, text_targets = _causal(count, answers)
    tokens = np.concatenate([np.full((count, 1 + longest), PAD, np.int64), written], 1)
    tokens[:, 0] = BOS
    for row, ids in enumerate(prompts):
        tokens[row, 1 : 1 + len(ids)] = ids
    none = np.empty((count, 0), np.int64)
    return Sequences(
        tokens=tokens,
        visible=tokens != PAD,
        prefix=1 + longest,
        outside=none.astype(bool),
        locate_targets=none[..., None],
        pose_targets=none[..., None],
        text_targets=text_targets,
        state_targets=none,
        cell_targets=none[..., None],
    )


def _causal(count: int, answers: list[list[int]]) -> tuple[Ids, Ids]:
    """Return the tokens of the causal part and the targets after each, both (count, longest + 2)."""
    longest = max(map(len, answers), default=0)
    tokens = np.full((count, longest + 2), PAD, np.int64)
    targets = np.full((count, longest + 2), UNSUPERVISED, np.int64)
    for row, ids in enumerate(answers):
        if ids:
            answer = [TEXT, *ids, EOS]
            tokens[row, : len(answer)] = answer
            targets[row, : len(answer) - 1] = answer[1:]
    return tokens, targets


def _write_text(plan: Plan, count: int, text: list[list[int]] | None) -> tuple[Ids, Ids]:
    """Return the tokens (count, T), the causal part written, and the text targets."""
    prefix = np.full((count, plan.prefix), PAD, np.int64)
    if text is None or not any(text):
        return prefix, np.full((count, 0), UNSUPERVISED, np.int64)
    causal, targets = _causal(count, text)
    return np.concatenate([prefix, causal], 1), targets


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


def _write_more(plan: Plan, tokens: Ids, gaps: Gaps, corruption: Corruption | None) -> None:
    """Write the earlier frames and what is denoised, and take away what an example lacks or is not asked."""
    count = len(tokens)
    for camera, slots in enumerate(plan.images):
        if gaps.cameras is not None:
            tokens[~gaps.cameras[:, camera], slots.start - 1 : slots.stop] = PAD
    for frame, slots in enumerate(plan.past):
        there = np.ones(count, bool) if gaps.past is None else gaps.past[:, frame]
        tokens[there, slots.start - 1] = HISTORY
        tokens[there, slots] = FRAME
    if corruption is None:
        return
    noisy = corruption.mode != PAD
    tokens[noisy, plan.locate.start - 1 : plan.pose.stop] = PAD
    tokens[noisy, plan.mode.start] = corruption.mode[noisy]
    tokens[noisy, plan.mode.start + 1] = corruption.modality[noisy]
    rebuilt = (corruption.cells != UNSUPERVISED).any((1, 2))
    tokens[rebuilt, plan.cells.start - 1] = REBUILD
    tokens[rebuilt, plan.cells] = QUERY


def _locate_targets(plan: Plan, labels: Mapping[str, NDArray[Any]], count: int) -> Ids:
    width = max((len(label.fields) for label in plan.labels), default=0)
    targets = np.full((count, len(plan.labels), width), UNSUPERVISED, np.int64)
    for slot, label in enumerate(plan.labels):
        if label.name in labels:
            values = np.asarray(labels[label.name], np.float64)
            known = np.isfinite(values)
            bins, outside = encode_values(np.where(known, values, label.fields[0].low), *ranges(label.fields))
            targets[:, slot, : len(label.fields)] = np.where(known & ~outside, bins, UNSUPERVISED)
    return targets


def _pose_targets(plan: Plan, chunk: NDArray[Any] | None, supervised: Flags | None, count: int) -> Ids:
    if chunk is None:
        return np.full((count, plan.chunk, len(plan.spec.action)), UNSUPERVISED, np.int64)
    low, high = ranges(plan.spec.action)
    if supervised is None:
        return encode_values(chunk, low, high)[0]
    asked = supervised if supervised.ndim == 3 else supervised[..., None]
    bins, _ = encode_values(np.where(asked, chunk, low), low, high)
    return np.where(asked, bins, UNSUPERVISED)


def _asked(corruption: Corruption | None, targets: Ids) -> Ids:
    """Return targets without those of examples that tell what was hidden: they are asked nothing else."""
    if corruption is not None:
        targets[corruption.mode != PAD] = UNSUPERVISED
    return targets


def _cell_targets(plan: Plan, corruption: Corruption | None, count: int) -> Ids:
    if corruption is None:
        return np.full((count, plan.rebuild**2, COLOURS), UNSUPERVISED, np.int64)
    return corruption.cells

"""The multimodal transformer: frames, text and value tokens in one sequence, value tokens and text out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from policies.backbones.folder import Backbone
from policies.backbones.foundation import Foundation, load_foundation
from policies.batch import Batch, Part
from policies.embedding import Embedding, fourier
from policies.layout import COLOURS, UNSUPERVISED, Plan
from policies.packing import arrange
from policies.trunk import Cache, Trunk, TrunkOptions
from policies.values import BINS
from policies.vision import Resampler, Stem, wave
from policies.vit import VisionTransformer, VitOptions
from policies.vocabulary import PAD

VALUE_WIDTH = 64


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of one model. strides has one entry a camera: pixels a grid cell."""

    width: int = 192
    layers: int = 4
    heads: int = 6
    feedforward: int = 512
    vision_width: int = 128
    grid_channels: int = 48
    strides: tuple[int, ...] = (4, 8)
    text_layers: int = 2
    trunk: TrunkOptions = field(default_factory=TrunkOptions)
    vit: VitOptions | None = None  # a vision transformer in place of the convolutional stem
    cosine: bool = True  # scaled cosine attention in the resamplers, else the plain product
    shrink: float = 1.0  # side of the frames that are looked at, as a part of theirs
    waves: int = 0  # octaves of sines and cosines that a grid cell's place is told by, beside its row and column
    backbone: Backbone | None = None  # a pretrained decoder as the trunk, or an image-text model; width is then its own
    vision: Backbone | None = None  # a pretrained vision encoder in place of the stems; grid_channels are then its own
    two_layers: bool = False  # of that encoder the second layer and the last but one, joined, else the last

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelConfig:
        """Return what asdict made a dictionary of."""
        plain = {**content, "strides": tuple(content["strides"]), "trunk": TrunkOptions(**content.get("trunk", {}))}
        if vit := content.get("vit"):
            plain["vit"] = VitOptions(**{**vit, "blocks": TrunkOptions(**vit["blocks"])})
        for name in ("backbone", "vision"):
            if described := content.get(name):
                plain[name] = Backbone(**described)
        return cls(**plain)


@dataclass(frozen=True)
class Answers:
    """Logits over the bins of each slot of one part (float32), and what goes on from there."""

    locate: Tensor  # (E, labels, width, 1000)
    pose: Tensor  # (E, chunk, n, 1000)
    text: Tensor  # (E, T - prefix, vocabulary)
    state: Tensor | None  # (E, n, 1000) where some of it was hidden
    cells: Tensor | None  # (E, cells, 3, 1000) where frames were to be rebuilt
    visible: Tensor  # (E, T) bool, false at padding
    looked: list[Tensor]  # a camera: (E, latents, heads, rows, columns), where the image tokens looked, summing to 1
    cache: Cache | DynamicCache | None


class Port(nn.Module):
    """What belongs to one embodiment alone: its slots' places, and the reading of its labels and steps."""

    def __init__(self, plan: Plan, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(plan.prefix, width) * 0.02)
        label_width = max((len(label.fields) for label in plan.labels), default=0)
        self.locate_head = nn.Linear(width, label_width * VALUE_WIDTH)
        self.pose_head = nn.Linear(width, len(plan.spec.action) * VALUE_WIDTH)


class PolicyModel(nn.Module):
    """A trunk under a prefix mask, with vision of its own before it, and a port for each embodiment."""

    def __init__(self, plans: Sequence[Plan], config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        base = load_foundation(config.backbone, config.vision, two_layers=config.two_layers)
        self.plans, self.config = tuple(plans), (config := _complete(config, base))
        width, seen = config.width, config.vision_width
        self.embedding = base.embedding or Embedding(vocabulary_size, width)
        self.to_text = nn.Linear(width, seen)
        self.text_encoder = Trunk(seen, config.text_layers, 4, 2 * seen)
        self.eye = base.eye  # one for all cameras
        self.stems = nn.ModuleList(self._stem(stride) for stride in (() if base.eye else config.strides))
        self.resamplers = nn.ModuleList(self._resampler(plans[0].latents) for _ in config.strides)
        self.to_trunk = nn.ModuleList(nn.Linear(seen, width) for _ in config.strides)
        self.trunk = base.decoder or Trunk(width, config.layers, config.heads, config.feedforward, config.trunk)
        self.port_names = port_names(plans)
        self.ports = nn.ModuleDict({self.port_names[plan.spec.name]: Port(plan, width) for plan in plans})
        self.bins = nn.Parameter(fourier(BINS, VALUE_WIDTH))
        if any(plan.history for plan in plans):
            self.past_resampler = self._resampler(max(plan.history_latents for plan in plans))
            self.past_to_trunk = nn.Linear(seen, width)
        if any(plan.rebuild for plan in plans):
            self.state_head = nn.Linear(width, VALUE_WIDTH)
            self.cells_head = nn.Linear(width, COLOURS * VALUE_WIDTH)

    def freeze_unused(self, plans: Sequence[Plan], cameras: Collection[int], *, rebuild: bool) -> None:
        """Train nothing of which nothing is learnt, as its weights would decay.

        That is another robot's port than those of plans, what sees by another camera than those of cameras, by their
        places in a plan, and unless rebuild what tells what was hidden.
        """
        learnt = {self.port_names[plan.spec.name] for plan in plans}
        for name, port in self.ports.items():
            port.requires_grad_(name in learnt)
        for parts in (self.stems, self.resamplers, self.to_trunk):
            for camera, part in enumerate(parts):
                part.requires_grad_(camera in cameras)
        if any(plan.rebuild for plan in self.plans):
            self.state_head.requires_grad_(rebuild)
            self.cells_head.requires_grad_(rebuild)

    def forward(self, batch: Batch, *, use_cache: bool = False) -> list[Answers]:
        """Answer every slot of every part in one pass.

        With use_cache, for a batch of one part that is not packed, the answers carry the trunk's cache, from which a
        text action goes on by next_text.
        """
        arrangement = arrange([part.sequences for part in batch.parts], batch.packing, self.bins.device)
        embedded, looked = zip(*[self._embed(part) for part in batch.parts], strict=True)
        cache = self.trunk.new_cache() if use_cache else None
        rows = self.trunk(arrangement.gather(embedded), arrangement.mask, arrangement.position, cache)
        hidden = arrangement.scatter(rows)
        return [self._answer(*each, cache) for each in zip(batch.parts, hidden, looked, strict=True)]

    def read(self, plan: Plan, instruction: list[int]) -> Tensor:
        """Return what an instruction tells the eye (1, text_length, vision width): the same all through an episode."""
        padding = [PAD] * (plan.text_length - len(instruction))
        tokens = torch.tensor([instruction + padding], device=self.bins.device)
        return self._read_text(plan, self.embedding(tokens), _readable(tokens != PAD))

    def next_text(self, tokens: list[int], answers: Answers, length: int) -> Tensor:
        """Return the logits (E, vocabulary) after one more token of each text action; length counts those before it."""
        cache = answers.cache
        assert cache is not None, "the answers were made without a cache"
        x = self.embedding(torch.tensor(tokens, device=self.bins.device)[:, None])
        visible = functional.pad(answers.visible, (0, length + 1 - answers.visible.shape[1]), value=True)
        position = torch.full((len(tokens), 1), length, device=x.device)
        return self._write(self.trunk(x, visible[:, None, :], position, cache))[:, 0]

    def _embed(self, part: Part) -> tuple[Tensor, list[Tensor]]:
        """Return a part's tokens (E, T, width), frames seen, and where its cameras' image tokens looked."""
        device, plan = self.bins.device, part.plan
        x = self.embedding(torch.from_numpy(part.sequences.tokens).to(device))
        if plan is None:
            return x, []
        port = self._port(plan)
        visible = torch.from_numpy(part.sequences.visible).to(device)
        text_visible = _readable(visible[:, plan.text])
        text = self._read_text(plan, x[:, plan.text], text_visible) if part.said is None else part.said
        x = x + functional.pad(port.position, (0, 0, 0, x.shape[1] - plan.prefix))
        looked = []
        for camera, slots in enumerate(plan.images):
            there = _whole(visible[:, slots.start])
            if not len(x[there]):
                looked.append(x.new_zeros(len(x), plan.latents, 1, 1, 1))
                continue
            image, where = self._see(camera, part.frames[camera][there], text[there], text_visible[there])
            x[there, slots] = x[there, slots] + image.to(x.dtype)
            looked.append(_spread(where, there, len(x)))
        for frame, slots in enumerate(plan.past):
            there = visible[:, slots.start]
            if part.past is not None and there.any():
                image = self._remember(part.past[there, frame], text[there], text_visible[there])
                x[there, slots] = x[there, slots] + image[:, : plan.history_latents].to(x.dtype)
        return x, looked

    def _read_text(self, plan: Plan, embedded: Tensor, visible: Tensor) -> Tensor:
        words = self.to_text(embedded + self._port(plan).position[plan.text])
        itself = torch.eye(words.shape[1], dtype=torch.bool, device=words.device)
        position = torch.arange(words.shape[1], device=words.device).expand(len(words), -1)
        read: Tensor = self.text_encoder(words, visible[:, None, :] | itself, position)
        return read

    def _see(self, camera: int, frames: Tensor, text: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        tokens, looked = self.resamplers[camera](self._grid(camera, frames), text, visible)
        return self.to_trunk[camera](tokens), looked

    def _remember(self, frames: Tensor, text: Tensor, visible: Tensor) -> Tensor:
        tokens, _ = self.past_resampler(self._grid(0, frames), text, visible)
        seen: Tensor = self.past_to_trunk(tokens)
        return seen

    def _answer(self, part: Part, hidden: Tensor, looked: list[Tensor], cache: Cache | DynamicCache | None) -> Answers:
        plan, sequences = part.plan, part.sequences
        visible = torch.from_numpy(sequences.visible).to(hidden.device)
        text = self._write(hidden[:, sequences.prefix :])
        if plan is None:
            none = text.new_zeros(len(text), 0, 0, BINS)
            return Answers(none, none, text, None, None, visible, [], cache)
        port = self._port(plan)
        told = (sequences.state_targets != UNSUPERVISED).any()
        rebuilt = (sequences.cell_targets != UNSUPERVISED).any()
        return Answers(
            locate=self._read(port.locate_head, hidden[:, plan.locate]),
            pose=self._read(port.pose_head, hidden[:, plan.pose]),
            text=text,
            state=self._read(self.state_head, hidden[:, plan.state])[:, :, 0] if told else None,
            cells=self._read(self.cells_head, hidden[:, plan.cells]) if rebuilt else None,
            visible=visible,
            looked=looked,
            cache=cache,
        )

    def _read(self, head: nn.Module, hidden: Tensor) -> Tensor:
        vectors = head(hidden)
        # The count is spelled out, since view cannot infer it where there are no labels and so no numbers.
        vectors = vectors.view(*vectors.shape[:2], vectors.shape[-1] // VALUE_WIDTH, VALUE_WIDTH)
        return functional.linear(vectors, self.bins.to(vectors.dtype)).float()

    def _write(self, hidden: Tensor) -> Tensor:
        return self.embedding.logits(hidden)

    def _grid(self, camera: int, frames: Tensor) -> Tensor:
        """Return the features (E, rows, columns, grid_channels + 2 + 4 waves) of uint8 frames (E, H, W, 3)."""
        see = self.stems[camera] if self.eye is None else self.eye
        grid: Tensor = see(self._pixels(frames))
        if not self.config.waves:
            return grid
        waves = wave(grid[:1, ..., -2:], self.config.waves)  # the same in every frame
        return torch.cat([grid, waves.expand(len(grid), -1, -1, -1)], -1)

    def _pixels(self, frames: Tensor) -> Tensor:
        """Return uint8 (E, H, W, 3) as (E, 3, H, W) in [0, 1], shrunk: each pixel the mean of those that it covers."""
        pixels = frames.to(self.bins.device).permute(0, 3, 1, 2).to(self.bins.dtype).div(255.0)
        if self.config.shrink == 1:
            return pixels
        height, width = (max(1, round(self.config.shrink * side)) for side in pixels.shape[2:])
        return functional.interpolate(pixels, (height, width), mode="area")

    def _port(self, plan: Plan) -> Port:
        port = self.ports[self.port_names[plan.spec.name]]
        assert isinstance(port, Port)
        return port

    def _resampler(self, latents: int) -> Resampler:
        seen = self.config.vision_width
        grid_width = self.config.grid_channels + 2 + 4 * self.config.waves
        return Resampler(grid_width, seen, latents, seen, cosine=self.config.cosine)

    def _stem(self, stride: int) -> Stem | VisionTransformer:
        channels, vit = self.config.grid_channels, self.config.vit
        return Stem(channels, stride) if vit is None else VisionTransformer(channels, stride, vit)


def _complete(config: ModelConfig, base: Foundation) -> ModelConfig:
    """Return the config with what the pretrained parts decide."""
    return replace(
        config,
        backbone=base.backbone,
        vision=base.vision,
        width=base.decoder.width if base.decoder else config.width,
        grid_channels=base.eye.channels if base.eye else config.grid_channels,
    )


def port_names(plans: Sequence[Plan]) -> dict[str, str]:
    """Return the name of each robot's own weights: a module's has no dots, and none that is another's or a dict's."""
    found: dict[str, str] = {}
    for plan in plans:
        name = re.sub(r"\W", "_", plan.spec.name)
        while name in found.values() or hasattr(nn.ModuleDict, name):
            name += "_"
        found[plan.spec.name] = name
    return found


def _readable(visible: Tensor) -> Tensor:
    """Return which words (E, L) are read: whoever has an instruction all of which is hidden reads padding."""
    readable = visible.clone()
    readable[:, 0] |= ~visible.any(1)
    return readable


def _whole(there: Tensor) -> Tensor | slice:
    """Return the examples that have a frame, as a slice where all do: nothing is copied then."""
    return slice(None) if bool(there.all()) else there


def _spread(looked: Tensor, there: Tensor | slice, count: int) -> Tensor:
    """Return where image tokens looked (E, ...), zeros for those examples that have no frame."""
    if isinstance(there, slice):
        return looked
    return looked.new_zeros(count, *looked.shape[1:]).index_put((there,), looked)

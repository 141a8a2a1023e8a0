"""The multimodal transformer: frames, text and value tokens in one sequence, value tokens and text out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, Qwen3Config, Qwen3Model

from policies.layout import Plan, Sequences
from policies.values import BINS
from policies.vision import Resampler, Stem
from policies.vocabulary import FIRST_TEXT, FIRST_VALUE

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


@dataclass(frozen=True)
class Answers:
    """Logits over the bins of each slot (float32), and the trunk's output over the causal part."""

    locate: Tensor  # (B, labels, width, 1000)
    pose: Tensor  # (B, chunk, n, 1000)
    text: Tensor  # (B, T - prefix, vocabulary)
    visible: Tensor  # (B, T) bool, false at padding
    looked: list[Tensor]  # a camera: (B, latents, heads, cells), where the image tokens looked, summing to 1
    cache: DynamicCache | None


class PolicyModel(nn.Module):
    """A trunk from transformers (RoPE, QK norm, SwiGLU, a cache) under a prefix mask, with vision of our own."""

    def __init__(self, plan: Plan, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.plan, self.config = plan, config
        width = config.width
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.position = nn.Parameter(torch.randn(plan.prefix, width) * 0.02)
        self.to_text = nn.Linear(width, config.vision_width)
        self.text_encoder = _transformer(config.vision_width, config.text_layers, 4, 2 * config.vision_width)
        self.stems = nn.ModuleList(Stem(config.grid_channels, stride) for stride in config.strides)
        self.resamplers = nn.ModuleList(
            Resampler(config.grid_channels + 2, config.vision_width, plan.latents, config.vision_width)
            for _ in config.strides
        )
        self.to_trunk = nn.ModuleList(nn.Linear(config.vision_width, width) for _ in config.strides)
        self.trunk = _transformer(width, config.layers, config.heads, config.feedforward)
        self.locate_width = max((len(label.fields) for label in plan.labels), default=0)
        self.locate_head = nn.Linear(width, self.locate_width * VALUE_WIDTH)
        self.pose_head = nn.Linear(width, len(plan.spec.action) * VALUE_WIDTH)
        self.bins = nn.Parameter(_fourier(BINS, VALUE_WIDTH))
        with torch.no_grad():
            self.embedding.weight.mul_(0.02)
            self.embedding.weight[FIRST_VALUE:FIRST_TEXT] += 0.1 * _fourier(BINS, width)

    def forward(self, sequences: Sequences, frames: list[Tensor], *, use_cache: bool = False) -> Answers:
        """Answer every slot in one pass.

        frames: one uint8 (B, H, W, 3) tensor a camera, in the spec's order. With use_cache the answers carry the
        trunk's cache, from which a text action goes on by next_text.
        """
        plan = self.plan
        device = self.bins.device
        tokens = torch.from_numpy(sequences.tokens).to(device)
        visible = torch.from_numpy(sequences.visible).to(device)
        x = self.embedding(tokens)
        words = self.to_text(x[:, plan.text] + self.position[plan.text])
        text_visible = visible[:, plan.text]
        everywhere = text_visible[:, None, None, :] | torch.eye(words.shape[1], dtype=torch.bool, device=device)
        text = self.text_encoder(
            inputs_embeds=words, attention_mask=_additive(everywhere), use_cache=False
        ).last_hidden_state
        places = [self.position, torch.zeros(x.shape[1] - plan.prefix, x.shape[2], device=device)]
        x = x + torch.cat(places)
        looked = []
        for slots, (image, where) in zip(plan.images, self._see(frames, text, text_visible), strict=True):
            x[:, slots] = x[:, slots] + image.to(x.dtype)
            looked.append(where)
        hidden, cache = self._think(x, visible, use_cache)
        return Answers(
            locate=self._read(self.locate_head, hidden[:, plan.locate]),
            pose=self._read(self.pose_head, hidden[:, plan.pose]),
            text=self._write(hidden[:, plan.prefix :]),
            visible=visible,
            looked=looked,
            cache=cache,
        )

    def next_text(self, tokens: list[int], answers: Answers, length: int) -> Tensor:
        """Return the logits (B, vocabulary) after one more token of each text action; length counts those before it."""
        cache = answers.cache
        assert cache is not None, "the answers were made without a cache"
        x = self.embedding(torch.tensor(tokens, device=self.bins.device)[:, None])
        visible = functional.pad(answers.visible, (0, length + 1 - answers.visible.shape[1]), value=True)
        mask = _additive(visible[:, None, None, :])
        hidden = self.trunk(inputs_embeds=x, attention_mask=mask, past_key_values=cache, use_cache=True)
        return self._write(hidden.last_hidden_state)[:, 0]

    def _see(self, frames: list[Tensor], text: Tensor, visible: Tensor) -> list[tuple[Tensor, Tensor]]:
        images = []
        for frame, stem, resampler, project in zip(frames, self.stems, self.resamplers, self.to_trunk, strict=True):
            pixels = frame.permute(0, 3, 1, 2).to(self.bins.dtype).div(255.0)
            tokens, looked = resampler(stem(pixels), text, visible)
            images.append((project(tokens), looked))
        return images

    def _think(self, x: Tensor, visible: Tensor, use_cache: bool) -> tuple[Tensor, DynamicCache | None]:
        length = x.shape[1]
        index = torch.arange(length, device=x.device)
        allowed = (index[None, :] < self.plan.prefix) | (index[None, :] <= index[:, None])
        mask = allowed[None, None] & visible[:, None, None, :]
        mask = mask | torch.eye(length, dtype=torch.bool, device=x.device)  # padding sees itself, so no row is empty
        cache = DynamicCache() if use_cache else None
        out = self.trunk(inputs_embeds=x, attention_mask=_additive(mask), past_key_values=cache, use_cache=use_cache)
        return out.last_hidden_state, cache

    def _read(self, head: nn.Module, hidden: Tensor) -> Tensor:
        vectors = head(hidden)
        # The count is spelled out, since view cannot infer it where there are no labels and so no numbers.
        vectors = vectors.view(*vectors.shape[:2], vectors.shape[-1] // VALUE_WIDTH, VALUE_WIDTH)
        return functional.linear(vectors, self.bins.to(vectors.dtype)).float()

    def _write(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.embedding.weight.to(hidden.dtype)).float()


def _transformer(width: int, layers: int, heads: int, feedforward: int) -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=1,  # sequences are embedded by the caller, frames and all
        hidden_size=width,
        intermediate_size=feedforward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
    )
    config._attn_implementation = "eager"  # on a CPU the fused kernel's backward pass is slower at these lengths
    return Qwen3Model(config)


def _additive(allowed: Tensor) -> Tensor:
    """Return the mask as eager attention takes it, which adds what it is given: a bool would only be a nudge of one."""
    return torch.zeros_like(allowed, dtype=torch.float32).masked_fill(~allowed, torch.finfo(torch.float32).min)


def _fourier(count: int, width: int) -> Tensor:
    """Return (count, width): smooth features of a bin's centre, so that neighbouring bins begin alike."""
    centre = (torch.arange(count) + 0.5) / count
    angles = centre[:, None] * torch.pi * torch.arange(1, width // 2 + 1)
    features: Tensor = torch.cat([angles.sin(), angles.cos()], 1) * (2.0 / width) ** 0.5
    return features

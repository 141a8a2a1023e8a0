"""The transformer that all tokens share: RoPE, QK norm and SwiGLU by default, every choice an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from embodied.errors import EmbodiedError

THETA = 10000.0  # the base of the rotary angles, as in Qwen3's default configuration
EPSILON = 1e-6
HIDDEN = torch.finfo(torch.bfloat16).min  # finite in float32 and bfloat16, so that a row that sees nothing is no NaN

Rotation = tuple[Tensor, Tensor]  # cosines and sines (..., L, 1, head width / 2)


class OptionError(EmbodiedError):
    """Sizes or options that make no transformer."""


@dataclass(frozen=True)
class TrunkOptions:
    """What a block is made of; the defaults are the shipped model's, and Qwen3's."""

    kv_heads: int | None = None  # None: one a head; 1: multi-query (Shazeer 2019); between: grouped
    norm: Literal["rms", "layer"] = "rms"
    activation: Literal["swiglu", "gelu"] = "swiglu"  # gelu has one matrix fewer, and 3/2 the width to make up for it
    qk_norm: bool = True
    parallel: bool = False  # x + attention(norm x) + mlp(norm x), of one norm (GPT-J, PaLM)
    fp32_logits: bool = True  # attention's logits and softmax are float32 even where autocast makes the rest bfloat16
    checkpointing: bool = False  # compute blocks again in the backward pass rather than keep what they made


class Cache:
    """The keys and values of the tokens so far, a pair (B, S, kv heads, head width) a layer."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append what a layer made of new tokens, and return all of its keys and values."""
        if layer in self.layers:
            old_key, old_value = self.layers[layer]
            key, value = torch.cat([old_key, key], 1), torch.cat([old_value, value], 1)
        self.layers[layer] = key, value
        return key, value


class Trunk(nn.Module):
    """A decoder from embeddings to hidden states; its parameters have the names of transformers' Qwen3Model."""

    def __init__(
        self, width: int, layers: int, heads: int, feedforward: int, options: TrunkOptions | None = None
    ) -> None:
        super().__init__()
        self.width, self.head_width = width, width // heads
        self.options = options or TrunkOptions()
        self.layers = nn.ModuleList(
            Block(width, heads, feedforward, self.options, index=index) for index in range(layers)
        )
        self.norm = make_norm(self.options, width)
        self.apply(initialise)

    def new_cache(self) -> Cache:
        """Return an empty cache, which forward fills."""
        return Cache()

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """Return hidden states (B, L, width) of embeddings x (B, L, width).

        mask: bool, broadcastable to (B, L, S), true where a query may look, S counting what is in the cache and then
        x. positions: int64 (B, L). A query that may look nowhere finds the mean of all, which is of no use, but no NaN.
        """
        bias = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill_(~mask, HIDDEN).unsqueeze(-3)
        rotation = rotary(positions, self.head_width, x.dtype)
        for layer in self.layers:
            x = layer(x, rotation, bias, cache)
        out: Tensor = self.norm(x)
        return out


class Block(nn.Module):
    """Attention and a feed-forward network beside the identity, one after the other or both at once."""

    def __init__(self, width: int, heads: int, feedforward: int, options: TrunkOptions, *, index: int = 0) -> None:
        super().__init__()
        self.options = options
        self.self_attn = Attention(width, heads, options, index)
        self.mlp: nn.Module = SwiGLU(width, feedforward)
        if options.activation == "gelu":
            self.mlp = GELU(width, 3 * feedforward // 2)
        self.input_layernorm = make_norm(options, width)
        if not options.parallel:
            self.post_attention_layernorm = make_norm(options, width)

    def forward(self, x: Tensor, rotation: Rotation | None, bias: Tensor | None, cache: Cache | None) -> Tensor:
        """Return x (B, L, width), refined."""
        if self.options.checkpointing and self.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(self._refine, x, rotation, bias, cache, use_reentrant=False)
            return again
        return self._refine(x, rotation, bias, cache)

    def _refine(self, x: Tensor, rotation: Rotation | None, bias: Tensor | None, cache: Cache | None) -> Tensor:
        inner = self.input_layernorm(x)
        attended = self.self_attn(inner, rotation, bias, cache)
        if self.options.parallel:
            both: Tensor = x + attended + self.mlp(inner)
            return both
        x = x + attended
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Attention(nn.Module):
    """Attention of several heads, which may share their keys and values."""

    def __init__(self, width: int, heads: int, options: TrunkOptions, index: int) -> None:
        super().__init__()
        kv_heads = heads if options.kv_heads is None else options.kv_heads
        if width % heads or (width // heads) % 2:
            raise OptionError(f"width {width} is not {heads} heads of an even width each")
        if kv_heads < 1 or heads % kv_heads:
            choices = [count for count in range(1, heads + 1) if heads % count == 0]
            raise OptionError(f"{heads} heads cannot share {kv_heads} kv_heads; choose from {choices}")
        self.options, self.index, self.head_width, self.shared = options, index, width // heads, heads // kv_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        if options.qk_norm:
            self.q_norm = make_norm(options, self.head_width)
            self.k_norm = make_norm(options, self.head_width)

    def forward(self, x: Tensor, rotation: Rotation | None, bias: Tensor | None, cache: Cache | None) -> Tensor:
        """Return what each token of x (B, L, width) found, (B, L, width); bias (B, 1, L, S) is added to the logits."""
        query, key = self.queries_and_keys(x, rotation)
        value = self.v_proj(x).unflatten(-1, (-1, self.head_width))
        if cache is not None:
            key, value = cache.extend(self.index, key, value)
        if self.shared > 1:
            key, value = key.repeat_interleave(self.shared, 2), value.repeat_interleave(self.shared, 2)
        found = self._attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), bias)
        out: Tensor = self.o_proj(found.transpose(1, 2).flatten(2))
        return out

    def queries_and_keys(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor]:
        """Return (B, L, heads, head width) and (B, L, kv heads, head width), normalised and rotated to their places."""
        query = self.q_proj(x).unflatten(-1, (-1, self.head_width))
        key = self.k_proj(x).unflatten(-1, (-1, self.head_width))
        if self.options.qk_norm:
            dtype = self.q_norm.weight.dtype  # under autocast projections are bfloat16: norms and angles stay exact
            query, key = self.q_norm(query.to(dtype)), self.k_norm(key.to(dtype))
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query, key

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        if self.options.fp32_logits:
            # The fused kernels keep logits and softmax in float32 whatever they are given, and never store them.
            return functional.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value, bias)
        with torch.autocast(value.device.type, enabled=False):
            logits = query.to(value.dtype) @ key.to(value.dtype).mT * self.head_width**-0.5
            logits = logits if bias is None else logits + bias.to(value.dtype)
            found: Tensor = logits.softmax(-1) @ value
            return found


class SwiGLU(nn.Module):
    """A feed-forward network whose units are gated (Shazeer 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., width)."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class GELU(nn.Module):
    """A feed-forward network of two matrices."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., width)."""
        out: Tensor = self.down_proj(functional.gelu(self.up_proj(x), approximate="tanh"))
        return out


def make_norm(options: TrunkOptions, width: int) -> nn.Module:
    """Return the norm of (..., width) that the options ask for."""
    return nn.RMSNorm(width, EPSILON) if options.norm == "rms" else nn.LayerNorm(width, EPSILON)


def rotary(positions: Tensor, head_width: int, dtype: torch.dtype, theta: float = THETA) -> Rotation:
    """Return the cosines and sines (..., L, 1, head_width / 2) that turn heads to positions (..., L) (RoPE)."""
    exponents = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions.device) / head_width
    angles = positions[..., None, None].float() * (1.0 / theta**exponents)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn x (..., L, heads, head width), whose first half and second half are the two sides of its planes."""
    cos, sin = rotation
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def initialise(module: nn.Module) -> None:
    """Draw a linear layer's weights as Qwen3 does, from a normal distribution of deviation 0.02."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)

"""Transformers' own Qwen3 in its eager form, to hold the trunk to, and its kind of mask."""

from __future__ import annotations

import torch
from transformers import Qwen3Config, Qwen3Model


def qwen3(width: int, layers: int, heads: int, feedforward: int) -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=1,
        hidden_size=width,
        intermediate_size=feedforward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
    )
    config._attn_implementation = "eager"
    return Qwen3Model(config)


def additive(mask: torch.Tensor) -> torch.Tensor:
    """Return what to add to logits, (B, 1, L, S), for a mask (B, L, S) that is true where a token may look."""
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[:, None]

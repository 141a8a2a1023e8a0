"""A pretrained causal decoder as the trunk: our embeddings in, our mask, its hidden states out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from policies.backbones.folder import BackboneError
from policies.trunk import HIDDEN


class Decoder(nn.Module):
    """The blocks of a decoder from transformers; it has the interface of policies.trunk.Trunk."""

    def __init__(self, body: Any, *, checkpointing: bool = False) -> None:  # noqa: ANN401 - transformers types little
        super().__init__()
        config = body.config.get_text_config()
        self.width = int(config.hidden_size)
        self.body = body
        self._reach = _reach(config)
        if checkpointing:
            body.gradient_checkpointing_enable({"use_reentrant": False})

    def new_cache(self) -> DynamicCache:
        """Return an empty cache, which forward fills."""
        return DynamicCache()

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """Return hidden states (B, L, width) of embeddings x (B, L, width).

        mask: bool, broadcastable to (B, L, S), true where a query may look, S counting what is in the cache and then
        x. positions: int64 (B, L). transformers uses a mask of four axes as it is, in every layer: one with a sliding
        window, which none of our sequences may then be longer than. Raise BackboneError for a position past it, or past
        a learned table of positions.
        """
        if self._reach is not None and int(positions.max()) >= self._reach:
            raise BackboneError(type(self.body).__name__, f"reaches {self._reach} tokens, fewer than a sequence has")
        bias = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill_(~mask, HIDDEN).unsqueeze(1)
        out = self.body(
            inputs_embeds=x,
            attention_mask=bias.expand(len(x), -1, x.shape[1], -1),
            position_ids=positions.expand(len(x), -1),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        hidden: Tensor = out.last_hidden_state
        return hidden


def _reach(config: Any) -> int | None:  # noqa: ANN401 - each class of configuration has its own
    """Return how many tokens a sequence may have, None where there is no bound to speak of."""
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    table = (
        config.max_position_embeddings if getattr(config, "model_type", "") in ("gpt2", "gpt_bigcode", "opt") else None
    )
    return min((n for n in (window, table) if n), default=None)

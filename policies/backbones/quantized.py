"""Frozen weights in 8 or 4 bits, by bitsandbytes, whose kernels run on a CPU as well; what is trained stays float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from policies.backbones.folder import BackboneError


def quantize(module: nn.Module, bits: int, *, keep: Iterable[str] = ()) -> None:
    """Replace module's frozen linear layers, in place, by ones of 8 bits (a scale a row) or 4 (NF4, blocks of 64).

    A gradient goes through them to what comes before, never to them. Layers under the names in keep, those that are
    trained (LoRA's among them) and those that are no nn.Linear stay as they are. Raise BackboneError without
    bitsandbytes, or where there is nothing to quantize.

    NF4: Dettmers et al. 2023, QLoRA. Full precision comes back by loading the folder without bits: a state_dict has
    only what is trained, and so fits both.
    """
    kept = tuple(keep)
    frozen = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad and not (kept and name.startswith(kept))
    ]
    if not frozen:
        raise BackboneError(type(module).__name__, f"has no linear layers to keep in {bits} bits; GPT-2's are none")
    for name, layer in frozen:
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, _quantized(layer, bits))


def _quantized(layer: nn.Linear, bits: int) -> nn.Module:
    try:
        from bitsandbytes.nn import modules
    except ImportError as error:
        raise BackboneError(
            f"in {bits} bits",
            "needs bitsandbytes; install it with: pip install -c constraints.txt 'embodied-runtime[backbones]'",
        ) from error
    kinds: dict[int, Any] = {4: modules.Linear4bit, 8: modules.Linear8bitLt}
    # A threshold of 0 sets no outliers apart: activations stay as they are on a CPU, only weights are rounded.
    how = {"quant_type": "nf4"} if bits == 4 else {"has_fp16_weights": False, "threshold": 0.0}
    made: nn.Module = kinds[bits](layer.in_features, layer.out_features, layer.bias is not None, **how)
    made.load_state_dict(layer.state_dict())
    made.requires_grad_(False)
    return made.to(layer.weight.device)  # rounds them

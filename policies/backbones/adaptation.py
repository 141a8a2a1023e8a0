"""What of a backbone is trained: nothing, LoRA's small matrices beside its linear layers, or all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from policies.backbones.folder import Backbone, BackboneError
from policies.backbones.quantized import quantize

EXTRA = "install it with: pip install -c constraints.txt 'embodied-runtime[backbones]'"


def adapt(module: nn.Module, backbone: Backbone, trained: Iterable[str] = ()) -> None:
    """Freeze, adapt or open module as backbone says, in place; trained names parts of it that are trained in any case.

    What is frozen is left out of its state_dict, and is not asked for by load_state_dict: the folder has it. Raise
    BackboneError for a target of LoRA that the module does not have, or where peft or bitsandbytes is missing.
    """
    module.requires_grad_(backbone.adapt == "full")
    if backbone.adapt == "full":
        return
    always = tuple(trained)
    if backbone.adapt == "lora":
        _add_lora(module, backbone, always)
    for name in always:
        module.get_submodule(name).requires_grad_(True)
    if backbone.bits is not None:
        quantize(module, backbone.bits, keep=always)
    leave_frozen_out(module)


def merge(module: nn.Module) -> None:
    """Add LoRA's matrices to the weights that they adapt, in place, for serving: the same answers at less cost.

    Raise BackboneError where those weights are quantized, which would round the sum: load it at full precision first.
    """
    for name, layer in _adapted(module):
        base = layer.get_base_layer()
        if not base.weight.is_floating_point():
            raise BackboneError(name, "its weights are quantized; load it at full precision to merge LoRA into it")
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, base)


def leave_frozen_out(module: nn.Module) -> None:
    """Keep what is frozen now out of module's state: neither saved, averaged nor asked for when a state is loaded."""
    kept = frozenset(name for name, parameter in module.named_parameters() if parameter.requires_grad)
    prefixes: list[str] = []

    def frozen(key: str, prefix: str) -> bool:
        return key.startswith(prefix) and key[len(prefix) :] not in kept

    def save(_: nn.Module, state: dict[str, Tensor], prefix: str, __: object) -> None:
        for key in [key for key in state if frozen(key, prefix)]:
            del state[key]

    def begin(_: nn.Module, __: object, prefix: str, *___: object) -> None:
        prefixes[:] = [prefix]

    def end(_: nn.Module, incompatible: Any) -> None:  # noqa: ANN401 - torch's own type is private
        incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not frozen(key, prefixes[0])]

    hooks: Any = module  # torch does not annotate these
    hooks.register_state_dict_post_hook(save)
    hooks.register_load_state_dict_pre_hook(begin)
    hooks.register_load_state_dict_post_hook(end)


def _add_lora(module: nn.Module, backbone: Backbone, always: tuple[str, ...]) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise BackboneError(backbone.folder, f"LoRA needs peft; {EXTRA}") from error
    there = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | Conv1D)]
    there = [name for name in there if not name.startswith(always)] if always else there
    wanted = [name for name in there if not backbone.targets or name.rpartition(".")[2] in backbone.targets]
    kinds = sorted({name.rpartition(".")[2] for name in there})
    if unknown := sorted(set(backbone.targets) - set(kinds)):
        raise BackboneError(backbone.folder, f"has no linear layers {unknown} for LoRA; it has {kinds}")
    config = LoraConfig(
        r=backbone.rank,
        lora_alpha=backbone.alpha,
        # In full, since peft takes a bare name for the end of one, and so more than is meant.
        target_modules="|".join(map(re.escape, wanted)),
        fan_in_fan_out=any(isinstance(module.get_submodule(name), Conv1D) for name in wanted),
    )
    inject_adapter_in_model(config, module)  # trains its own matrices and freezes all else


def _adapted(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, layer) for name, layer in module.named_modules() if hasattr(layer, "get_base_layer")]

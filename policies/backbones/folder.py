"""Which pretrained model a policy stands on: its folder, how it is adapted, and what tells it from another one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, GgufConfig, PreTrainedConfig
from transformers.utils import logging

from embodied.errors import EmbodiedError

Adapt = Literal["frozen", "lora", "full"]
ADAPTS = ("frozen", "lora", "full")
BITS = (4, 8)
CONFIG = "config.json"


class BackboneError(EmbodiedError):
    """A backbone's folder or options that cannot be used; names the folder and the reason."""

    def __init__(self, folder: str | Path, reason: str) -> None:
        super().__init__(f"backbone {folder}: {reason}")


@dataclass(frozen=True)
class Backbone:
    """A pretrained model and how it is adapted, in plain JSON types, so that a checkpoint can say which one it needs.

    What begins with architecture is filled in by loading it, and is then what a later load is held to.
    """

    folder: str
    adapt: Adapt = "lora"
    rank: int = 16  # of LoRA's matrices
    alpha: int = 32  # their sum is added alpha / rank times
    targets: tuple[str, ...] = ()  # names of the layers that LoRA adapts; empty: all that are linear
    bits: Literal[4, 8] | None = None  # of the frozen weights; None: 32
    checkpointing: bool = False  # compute blocks again in the backward pass rather than keep what they made
    architecture: str = ""
    sha256: str = ""  # of the weight files; empty for one that is trained in full, which a checkpoint has whole
    config: Mapping[str, Any] = field(default_factory=dict)  # of that one, empty otherwise
    pixels: Mapping[str, Any] = field(default_factory=dict)  # of one that sees: size, mean and deviation
    nearby: str = ""  # the folder as seen from the checkpoint's

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))  # JSON has lists
        if self.adapt not in ADAPTS:
            raise BackboneError(self.folder, f"no way to adapt {self.adapt!r}; there are {[*ADAPTS]}")
        if self.bits is not None and self.bits not in BITS:
            raise BackboneError(self.folder, f"no weights of {self.bits} bits; there are {[*BITS]}, or none for 32")
        if self.bits is not None and self.adapt == "full":
            raise BackboneError(self.folder, f"weights of {self.bits} bits are frozen; adapt 'full' would train them")
        if self.rank < 1:
            raise BackboneError(self.folder, f"rank {self.rank}; LoRA takes 1 or more")


def load_pretrained(
    auto: Any,  # noqa: ANN401 - transformers' Auto classes share no typed base
    backbone: Backbone,
    *,
    attention: str | None = None,
) -> tuple[Any, Backbone]:
    """Load a folder by one of transformers' Auto classes, in float32, and return it with its description completed.

    A backbone that was trained in full and comes out of a checkpoint is made from its config: the caller loads its
    weights, and the folder is not needed. Raise BackboneError where the folder is absent, of another class or of other
    weights than the description tells, or lacks a weight.
    """
    if backbone.adapt == "full" and backbone.config:
        return _from_config(auto, backbone, attention), backbone
    folder = Path(backbone.folder).expanduser()
    files = weight_files(folder)
    sha256 = "" if backbone.adapt == "full" else hash_files(files)
    if backbone.sha256 not in ("", sha256):
        raise BackboneError(folder, f"its weights are not those that the policy was trained on (sha256 {sha256[:12]}, "
                            f"not {backbone.sha256[:12]})")  # fmt: skip
    model = _open(auto, folder, files, attention)
    architecture = type(model).__name__
    if backbone.architecture not in ("", architecture):
        raise BackboneError(folder, f"it is a {architecture}; the policy was trained on a {backbone.architecture}")
    config = model.config.to_dict()
    config.pop("quantization_config", None)  # the file's; these weights have been unpacked
    full = {"config": _plain(config)} if backbone.adapt == "full" else {}
    return model, replace(backbone, folder=str(folder.resolve()), architecture=architecture, sha256=sha256, **full)


def config_of(backbone: Backbone) -> type[PreTrainedConfig] | None:
    """Return the class of a backbone's configuration, None where only its GGUF file tells."""
    try:
        if backbone.config:
            return type(AutoConfig.for_model(**backbone.config))
        folder = Path(backbone.folder).expanduser()
        return type(AutoConfig.from_pretrained(folder, local_files_only=True)) if (folder / CONFIG).is_file() else None
    except Exception as error:  # transformers raises whatever its parts do
        raise BackboneError(backbone.folder, f"{CONFIG} is of no model that is known ({_line(error)})") from error


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, else its one GGUF file; raise BackboneError where there is neither."""
    if not folder.is_dir():
        raise BackboneError(folder, "no such folder")
    if (folder / CONFIG).is_file() and (found := sorted(folder.glob("*.safetensors"))):
        return found
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise BackboneError(
            folder, f"takes {CONFIG} with *.safetensors, or one *.gguf; there are {len(found)} of those"
        )
    return found


def gguf_options(files: list[Path]) -> dict[str, str]:
    """Return what transformers must be told where the weights are a GGUF file."""
    return {"gguf_file": files[0].name} if files[0].suffix == ".gguf" else {}


def hash_files(files: list[Path]) -> str:
    """Return the SHA-256 of the files' contents, one after the other, in hex."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _open(auto: Any, folder: Path, files: list[Path], attention: str | None) -> Any:  # noqa: ANN401
    packed = gguf_options(files)
    # Packed GGUF weights could be neither adapted nor trained; safetensors alone, as the other format unpickles.
    options = {**packed, "quantization_config": GgufConfig(dequantize=True)} if packed else {"use_safetensors": True}
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a folder is read in a moment
    try:
        model, told = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=attention,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers raises whatever its parts do
        raise BackboneError(folder, f"{auto.__name__} cannot load it ({_line(error)})") from error
    if absent := sorted(told["missing_keys"]):
        raise BackboneError(folder, f"its weights lack {absent[:3]} of {len(absent)} that a {type(model).__name__} has")
    if broken := [name for name, tensor in model.named_parameters() if not tensor.isfinite().all()]:
        raise BackboneError(folder, f"has numbers that are not finite in {broken[:3]}")
    return model


def _from_config(auto: Any, backbone: Backbone, attention: str | None) -> Any:  # noqa: ANN401
    try:
        config = AutoConfig.for_model(**backbone.config)
        model = auto.from_config(config, dtype=torch.float32, attn_implementation=attention)
    except Exception as error:
        raise BackboneError(backbone.folder, f"its config makes no model ({_line(error)})") from error
    return model


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a config as JSON has it: names as text, tuples as lists, a dtype by its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value).removeprefix("torch.")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

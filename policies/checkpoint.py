"""A checkpoint folder: bf16 weights, byte pairs, and all the policy must know of the robot it was trained for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from embodied.errors import EmbodiedError
from embodied.types import Field, RobotSpec
from policies.layout import Label, Plan
from policies.model import ModelConfig, PolicyModel
from policies.vocabulary import Vocabulary

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
FORMAT = 1


class CheckpointError(EmbodiedError):
    """A checkpoint folder that cannot be used; names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"checkpoint {path}: {reason}")


@dataclass(frozen=True)
class Checkpoint:
    """A model with the plan, vocabulary and words it was trained with; trained tells how, in plain JSON types."""

    model: PolicyModel
    vocabulary: Vocabulary
    words: frozenset[str]  # every word of the instructions it was trained on
    trained: Mapping[str, Any]

    @property
    def plan(self) -> Plan:
        """Return the layout of its sequences."""
        return self.model.plan

    def save(self, path: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the folder file by file, each replaced whole; weights stand in for the model's own."""
        path.mkdir(parents=True, exist_ok=True)
        tensors = dict(weights or self.model.state_dict())
        content = {
            "format": FORMAT,
            "spec": self.plan.spec.to_dict(),
            "labels": [asdict(label) for label in self.plan.labels],
            "chunk": self.plan.chunk,
            "text_length": self.plan.text_length,
            "latents": self.plan.latents,
            "model": asdict(self.model.config),
            "words": sorted(self.words),
            "trained": dict(self.trained),
        }
        save_file({k: v.detach().to(torch.bfloat16).contiguous() for k, v in tensors.items()}, path / f"{WEIGHTS}.part")
        (path / f"{CONFIG}.part").write_text(json.dumps(content, indent=1) + "\n")
        self.vocabulary.save(path / f"{TOKENIZER}.part")
        for name in (WEIGHTS, CONFIG, TOKENIZER):
            (path / f"{name}.part").replace(path / name)

    def with_trained(self, trained: Mapping[str, Any]) -> Checkpoint:
        """Return the same checkpoint with another account of its training."""
        return replace(self, trained=trained)


def load_checkpoint(path: Path, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Read what Checkpoint.save wrote; raise CheckpointError naming what is missing or does not fit."""
    if not path.is_dir():
        raise CheckpointError(path, "no such folder")
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        if not (path / name).is_file():
            raise CheckpointError(path, f"no {name} in it")
    try:
        content = json.loads((path / CONFIG).read_text())
        if content["format"] != FORMAT:
            raise CheckpointError(path, f"format {content['format']}; this reads {FORMAT}")
        plan = Plan(
            spec=RobotSpec.from_dict(content["spec"]),
            labels=tuple(Label(e["name"], tuple(Field(**f) for f in e["fields"])) for e in content["labels"]),
            chunk=content["chunk"],
            text_length=content["text_length"],
            latents=content["latents"],
        )
        sizes = content["model"]
        config = ModelConfig(**{**sizes, "strides": tuple(sizes["strides"])})
        words, trained = frozenset(content["words"]), dict(content["trained"])
        vocabulary = _load_vocabulary(path)
        model = PolicyModel(plan, config, vocabulary.size)
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError, OSError) as error:
        raise CheckpointError(path, f"{CONFIG} does not describe a policy ({error!r})") from error
    try:
        model.load_state_dict(load_file(path / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(path, f"{WEIGHTS} does not fit {CONFIG} ({reason})") from error
    if broken := [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
        raise CheckpointError(path, f"{WEIGHTS} has numbers that are not finite in {broken[:3]}")
    return Checkpoint(model.to(dtype).eval(), vocabulary, words, trained)


def _load_vocabulary(path: Path) -> Vocabulary:
    try:
        return Vocabulary.load(path / TOKENIZER)
    except Exception as error:  # tokenizers raises no narrower type
        raise CheckpointError(path, f"{TOKENIZER} is no tokenizer ({error})") from error

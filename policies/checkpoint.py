"""A checkpoint folder: bf16 weights, byte pairs, and all the policy must know of the robot it was trained for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from embodied.errors import EmbodiedError, UnknownNameError
from embodied.output import to_disk
from embodied.types import Field, RobotSpec
from policies.backbones.whereabouts import find, note_nearby
from policies.layout import Label, Plan
from policies.model import ModelConfig, PolicyModel
from policies.vocabulary import FIRST_VALUE, Vocabulary

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
FORMAT = 2
OLD_FORMAT = 1  # of one embodiment, with fewer special tokens and transformers' own trunk
OLD_SPECIALS = 11


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
    def plans(self) -> tuple[Plan, ...]:
        """Return the layout of each embodiment's sequences."""
        return self.model.plans

    @property
    def plan(self) -> Plan:
        """Return the layout of the first embodiment's sequences; most checkpoints have one."""
        return self.model.plans[0]

    def plan_of(self, robot: str) -> Plan:
        """Return the plan of a robot by its spec's name; raise UnknownNameError with those there are."""
        found = {plan.spec.name: plan for plan in self.plans}
        if robot not in found:
            raise UnknownNameError("embodiment", robot, "the checkpoint", found)
        return found[robot]

    def save(self, path: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the folder file by file, each replaced whole; weights stand in for the model's own."""
        path.mkdir(parents=True, exist_ok=True)
        tensors, sizes = dict(weights or self.model.state_dict()), self.model.config
        base, sight = note_nearby(sizes.backbone, path), note_nearby(sizes.vision, path)
        content = {
            "format": FORMAT,
            "plans": [_plan_to_dict(plan) for plan in self.plans],
            "model": asdict(replace(sizes, backbone=base, vision=sight)),
            "words": sorted(self.words),
            "trained": dict(self.trained),
        }
        save_file({k: v.detach().to(torch.bfloat16).contiguous() for k, v in tensors.items()}, path / f"{WEIGHTS}.part")
        (path / f"{CONFIG}.part").write_text(json.dumps(content, indent=1) + "\n")
        self.vocabulary.save(path / f"{TOKENIZER}.part")
        for name in (WEIGHTS, CONFIG, TOKENIZER):
            to_disk(path / f"{name}.part")
            (path / f"{name}.part").replace(path / name)

    def with_trained(self, trained: Mapping[str, Any]) -> Checkpoint:
        """Return the same checkpoint with another account of its training."""
        return replace(self, trained=trained)


def load_checkpoint(
    path: Path, dtype: torch.dtype = torch.float32, *, backbone: Path | None = None, vision: Path | None = None
) -> Checkpoint:
    """Read what Checkpoint.save wrote; backbone and vision are its pretrained folders, if not where they were.

    Raise CheckpointError naming what is missing or does not fit, BackboneError for a pretrained folder of which that is
    so.
    """
    if not path.is_dir():
        raise CheckpointError(path, "no such folder")
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        if not (path / name).is_file():
            raise CheckpointError(path, f"no {name} in it")
    try:
        content = json.loads((path / CONFIG).read_text())
        if content["format"] not in (OLD_FORMAT, FORMAT):
            raise CheckpointError(path, f"format {content['format']}; this reads {OLD_FORMAT} and {FORMAT}")
        old = content["format"] == OLD_FORMAT
        plans = [_plan_of_dict(plan) for plan in ([content] if old else content["plans"])]
        if not plans:
            raise CheckpointError(path, f"{CONFIG} has no embodiment's plan")
        config = ModelConfig.from_dict(content["model"])
        base, sight = find(config.backbone, "backbone", backbone, path), find(config.vision, "vision", vision, path)
        config = replace(config, backbone=base, vision=sight)
        words, trained = frozenset(content["words"]), dict(content["trained"])
        vocabulary = _load_vocabulary(path)
        model = PolicyModel(plans, config, vocabulary.size)
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError, ArithmeticError, OSError) as error:
        raise CheckpointError(path, f"{CONFIG} does not describe a policy ({error!r})") from error
    try:
        tensors = load_file(path / WEIGHTS)
        model.load_state_dict(_renew(tensors, model) if old else tensors)
    except (SafetensorError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(path, f"{WEIGHTS} does not fit {CONFIG} ({reason})") from error
    if broken := [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
        raise CheckpointError(path, f"{WEIGHTS} has numbers that are not finite in {broken[:3]}")
    return Checkpoint(model.to(dtype).eval(), vocabulary, words, trained)


def _plan_to_dict(plan: Plan) -> dict[str, Any]:
    return {**asdict(plan), "spec": plan.spec.to_dict()}


def _plan_of_dict(content: Mapping[str, Any]) -> Plan:
    plain = {f.name: content[f.name] for f in fields(Plan) if f.name in content}
    labels = tuple(Label(e["name"], tuple(Field(**f) for f in e["fields"])) for e in content["labels"])
    return Plan(**{**plain, "spec": RobotSpec.from_dict(content["spec"]), "labels": labels})


def _renew(tensors: Mapping[str, Tensor], model: PolicyModel) -> dict[str, Tensor]:
    """Return the weights of a checkpoint of the old format under the names, and at the places, that they have now."""
    (name,) = model.port_names.values()
    port = f"ports.{name}"
    own = ("position", "locate_head", "pose_head")
    found = {f"{port}.{n}" if n.startswith(own) else n: t for n, t in tensors.items() if "embed_tokens" not in n}
    table = model.state_dict()["embedding.weight"].clone()
    table[:OLD_SPECIALS] = found["embedding.weight"][:OLD_SPECIALS]
    table[FIRST_VALUE:] = found["embedding.weight"][OLD_SPECIALS:]
    return {**found, "embedding.weight": table}


def _load_vocabulary(path: Path) -> Vocabulary:
    try:
        return Vocabulary.load(path / TOKENIZER)
    except Exception as error:  # tokenizers raises no narrower type
        raise CheckpointError(path, f"{TOKENIZER} is no tokenizer ({error})") from error

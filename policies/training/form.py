"""What a model is made with and no run can change: read off it, and held against what the run asks for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from embodied.errors import EmbodiedError
from policies.checkpoint import Checkpoint
from policies.training.config import FIXED, TrainConfig

FOLDERS = ("backbone", "vision")  # other ones than recorded may be named: what is in them is held against the model
PRETRAINED = ("adapt", "rank", "bits")
MOVING = ("steps", "samples", "torch", "precision", *FOLDERS)  # of a run's account: what another machine or day changes


def settle(config: TrainConfig, checkpoint: Checkpoint) -> TrainConfig:
    """Return the config with what the checkpoint's model is made with, so that a run tells what it really trains."""
    return replace(config, **form_of(checkpoint))


def form_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a model is made with by the names that the config has for it; None where it has no such part."""
    plan, sizes = checkpoint.plan, checkpoint.model.config
    base = sizes.backbone or sizes.vision
    folders = {name: Path(part.folder) if (part := getattr(sizes, name)) else None for name in FOLDERS}
    how = {"adapt": base and base.adapt, "rank": base.rank if base and base.adapt == "lora" else None}
    return {
        **{"chunk": plan.chunk, "latents": plan.latents, "history": plan.history, "shrink": sizes.shrink},
        **folders,
        **how,
        "bits": base and base.bits,
    }


def require_no_eye(config: TrainConfig) -> None:
    """Raise EmbodiedError where an eye is given to a model that has one."""
    if config.eye is not None:
        raise EmbodiedError(
            f"--eye {config.eye} goes with a fresh model, and --start has one; leave out one of the two"
        )


def require_same_run(config: TrainConfig, run: Checkpoint) -> None:
    """Raise EmbodiedError naming all that config asks for and the run in its folder did not begin with."""
    asked = {name: getattr(config, name) for name in FIXED}
    changed = {name: run.trained[name] for name, now in asked.items() if run.trained.get(name, now) != now}
    if found := _told({**changed, **_others(config, run)}, config):
        raise EmbodiedError(
            f"the run in {config.out} began with {found}; resume it with the same, or give another --out"
        )


def tell_changes(config: TrainConfig, run: Checkpoint) -> str:
    """Return in words what a resumed run may change, and does; empty where it goes on as it began."""
    now = json.loads(json.dumps(config.account(0)))  # as it is read back
    before = {name: was for name, was in run.trained.items() if name in now and name not in MOVING}
    changed = [f"{n} is {now[n]} and was {was}" for n, was in before.items() if now[n] not in (None, was)]
    return f"note: the run goes on otherwise than it began: {', '.join(changed)}" if changed else ""


def require_same_model(config: TrainConfig, start: Checkpoint) -> None:
    """Raise EmbodiedError naming all that config asks for and the checkpoint that it starts from does not have.

    Frames of another size may be asked for: the same weights look at any.
    """
    if found := _told(_others(replace(config, shrink=None), start), config):
        raise EmbodiedError(
            f"checkpoint {config.start} has {found}; ask for what it has, or begin a fresh model without --start"
        )
    if config.denoise and not start.plan.rebuild:
        raise EmbodiedError(
            f"checkpoint {config.start} was made without --denoise and cannot tell what is hidden; "
            "leave out --denoise, or begin a fresh model without --start"
        )


def require_use(config: TrainConfig) -> None:
    """Raise EmbodiedError naming a flag that a fresh model has no use for."""
    said = [name for name in PRETRAINED if getattr(config, name) is not None]
    if said and config.backbone is None and config.vision is None:
        flags = ", ".join(f"--{name} {getattr(config, name)}" for name in said)
        raise EmbodiedError(f"{flags}: of a pretrained model, and none is named; give --backbone or --vision")
    if config.rank is not None and config.adapt not in (None, "lora"):
        raise EmbodiedError(f"--rank {config.rank}: of LoRA's matrices; with --adapt {config.adapt} there are none")


def _others(config: TrainConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the model has of each thing that config asks for otherwise."""
    has = form_of(checkpoint)
    asked = {name: value for name in has if (value := getattr(config, name)) is not None}
    return {name: has[name] for name, value in asked.items() if name not in FOLDERS and has[name] != value}


def _told(has: dict[str, Any], config: TrainConfig) -> str:
    return ", ".join(f"{name} {value}, not {getattr(config, name)}" for name, value in has.items())

"""Train a policy on recorded datasets, showing how it does as it goes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from embodied.cli.arguments import natural_int, positive_int
from embodied.errors import EmbodiedError, UnknownNameError
from embodied.modules import load_function

TRAINER = "policies.train"
OPTIONAL = (
    *("batch", "accumulate", "learning_rate", "weight_decay", "warmup", "decay", "seed"),
    *("start", "eye", "chunk", "latents"),
    *("history", "pack", "denoise", "refuse", "shrink", "precision", "compile", "shard", "save_every", "keep"),
    *("backbone", "vision", "adapt", "rank", "bits"),
)
ROLLOUT = ("every", "episodes", "task")
EXAMPLE = """examples:
  embodied finetune --dataset data/so101 --out runs/so101 --steps 20000
  embodied finetune --dataset data/so101 --out runs/so101 --steps 20000 --resume
  embodied finetune --dataset data/so101 --out runs/so101 --steps 20000 --dry-run
  embodied finetune --dataset data/mine --start runs/so101 --out runs/mine --steps 2000
  embodied finetune --dataset data/mine --dataset data/so101:20% --start runs/so101 --out runs/both --steps 2000
  embodied finetune --dataset data/so101 --backbone models/smollm2 --adapt lora --out runs/smollm --steps 2000
  embodied finetune --dataset data/so101 --backbone models/smollm2 --eye policies/checkpoints/so101 --out runs/smollm \
      --steps 2000
  torchrun --nproc-per-node 2 -m -- embodied finetune --dataset data/so101 --out runs/so101 --steps 20000 --shard

Learnt from are the episodes that succeeded, and of the others only what an operator did in the policy's place. Of
several datasets each is drawn from by the square root of its size, times its weight; data/old:20% is every fifth
example.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is trained on, for how long, and where it is written; what is left out is the trainer's default."""
    parser.add_argument(
        "--dataset",
        action="append",
        required=True,
        metavar="DIR[:WEIGHT|:SHARE%]",
        help="what embodied collect, or rollout --record, wrote, or any LeRobot v3.0 dataset; may be said again",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the checkpoint and the log")
    parser.add_argument("--steps", type=positive_int, required=True, metavar="N", help="optimiser steps in all")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--dry-run", action="store_true", help="tell parameters, tokens, memory and time, and stop")
    _add_data(parser)
    _add_pretrained(parser)
    _add_optimisation(parser)
    _add_machine(parser)
    _add_watching(parser)


def run(args: argparse.Namespace) -> int:
    """Hand the arguments to the trainer, which has the torch that the command line does without."""
    config, leads = read_config(args), os.environ.get("RANK", "0") == "0"  # as torchrun numbers its processes
    if args.dry_run:
        told = load_function("trainer", TRAINER, "dry_run", ("policies",))(config, resume=args.resume)
    else:
        told = f"wrote {load_function('trainer', TRAINER, 'train', ('policies',))(config, resume=args.resume)}"
    if leads:
        print(told)
    return 0


def read_config(args: argparse.Namespace) -> object:
    """Return the trainer's config; raise EmbodiedError for what no flag's type refuses."""
    config, given, plan, objective = (
        load_function("trainer", TRAINER, name, ("policies",))
        for name in ("TrainConfig", "Given", "RolloutPlan", "Objective")
    )
    chosen = {name: value for name in OPTIONAL if (value := getattr(args, name)) is not None}
    if args.weight:
        chosen["objective"] = objective(**_weights(args.weight, objective().weights))
    how = {name: value for name in ROLLOUT if (value := getattr(args, f"rollout_{name}")) is not None}
    if args.rollout:
        chosen["rollout"] = plan(args.rollout, **how)
    elif how:
        raise EmbodiedError(f"--rollout-{next(iter(how))} goes with --rollout, which names the robot")
    data = tuple(given(**_source(text)) for text in args.dataset)
    texts = tuple(given(**_source(text)) for text in args.text)
    return config(data=data, out=args.out, steps=args.steps, texts=texts, **chosen)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start", type=Path, metavar="DIR", help="a checkpoint to go on from (default a fresh model)")
    parser.add_argument(
        "--eye", type=Path, metavar="DIR", help="a checkpoint whose trained eye a fresh model begins with"
    )
    parser.add_argument(
        "--text", action="append", default=[], metavar="FILE[:WEIGHT|:SHARE%]", help="text to learn beside, a line each"
    )
    parser.add_argument(
        "--chunk",
        type=positive_int,
        metavar="N",
        help="actions that the policy answers with (default 12, or as in --start)",
    )
    parser.add_argument(
        "--latents", type=positive_int, metavar="N", help="image tokens of a camera (default 6, or its)"
    )
    parser.add_argument(
        "--history", type=natural_int, metavar="N", help="earlier frames of the first camera (default 0, or its)"
    )
    parser.add_argument("--pack", type=natural_int, metavar="TOKENS", help="pack examples into rows as wide as this")
    parser.add_argument("--denoise", type=float, metavar="X", help="share of examples of which something is hidden")
    parser.add_argument(
        "--refuse",
        type=float,
        metavar="X",
        help="share of demonstrations told another task's sentence and taught to stay put (of one task a scene)",
    )
    parser.add_argument(
        "--shrink",
        type=float,
        metavar="X",
        help="look at frames shrunk to that part of their sides (default 1, or as in --start)",
    )


def _add_pretrained(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbone",
        type=Path,
        metavar="DIR",
        help="a pretrained decoder or image-text model as trunk; with --start or --resume: where theirs is now",
    )
    parser.add_argument(
        "--vision", type=Path, metavar="DIR", help="a pretrained vision encoder for the frames; or where theirs is now"
    )
    parser.add_argument("--adapt", choices=("frozen", "lora", "full"), help="what of them is trained (default lora)")
    parser.add_argument("--rank", type=positive_int, metavar="N", help="of LoRA's matrices (default 16)")
    parser.add_argument("--bits", type=int, choices=(8, 4), help="of their frozen weights (default 32)")


def _add_optimisation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=positive_int, metavar="N", help="samples in a step, of all processes together")
    parser.add_argument("--accumulate", type=positive_int, metavar="K", help="learn a batch in K parts: less memory")
    parser.add_argument("--learning-rate", type=float, metavar="X")
    parser.add_argument("--weight-decay", type=float, metavar="X")
    parser.add_argument("--warmup", type=natural_int, metavar="N", help="steps in which the learning rate rises")
    parser.add_argument("--decay", type=float, metavar="X", help="part of the steps, at the end, in which it falls")
    parser.add_argument("--seed", type=natural_int, metavar="N")
    parser.add_argument("--weight", action="append", default=[], metavar="TERM=X", help="of a term of the loss")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp32"), help="of matrix products (default auto: the faster one here)"
    )
    parser.add_argument("--compile", action="store_true", default=None, help="compile the trunk's layers first")
    parser.add_argument("--shard", action="store_true", default=None, help="spread the weights over the processes too")


def _add_watching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--save-every",
        type=positive_int,
        metavar="N",
        help="steps between saves (default a tenth of --steps, from 10 to 500)",
    )
    parser.add_argument("--keep", type=positive_int, metavar="K", help="states of the run that stay (default 2)")
    parser.add_argument("--rollout", metavar="MODULE", help="a robot to run the policy on while it is trained")
    parser.add_argument("--rollout-every", type=natural_int, metavar="N", help="steps, some saves (default every save)")
    parser.add_argument("--rollout-episodes", type=positive_int, metavar="K", help="for each task (default 5)")
    parser.add_argument("--rollout-task", metavar="T[,T2]|all", help="tasks of the robot (default all)")


def _source(text: str) -> dict[str, Any]:
    """Read DIR, DIR:2 or DIR:20%; what follows the colon and is no number belongs to the name."""
    path, colon, tail = text.rpartition(":")
    try:
        number = float(tail.removesuffix("%")) if colon else 1.0
    except ValueError:
        return {"path": Path(text)}
    if not colon:
        return {"path": Path(text)}
    return {"path": Path(path), **({"share": number / 100} if tail.endswith("%") else {"weight": number})}


def _weights(given: list[str], usual: dict[str, float]) -> dict[str, float]:
    weights = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in usual:
            raise UnknownNameError("term", name, "the loss", usual)
        try:
            weights[name] = float(number)
        except ValueError as error:
            raise EmbodiedError(f"--weight takes TERM=X, as in {name}=0.5; not {text!r}") from error
    return weights

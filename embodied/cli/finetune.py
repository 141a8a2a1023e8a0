"""Train a policy on a recorded dataset, showing how it does as it goes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from embodied.cli.arguments import option, positive_int
from embodied.modules import load_function

TRAINER = "policies.train"
EXAMPLE = """examples:
  embodied finetune --dataset data/so101 --out runs/so101 --steps 20000
  embodied finetune --dataset data/so101 --out runs/so101 --steps 40000 --resume
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is trained on, for how long, and where it is written."""
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="what embodied collect wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for checkpoints and the training log")
    parser.add_argument(
        "--steps", type=positive_int, metavar="N", help="optimiser steps in all (default the trainer's)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    parser.add_argument(
        "--set",
        type=option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other argument of the trainer",
    )
    parser.add_argument(
        "--trainer", default=TRAINER, metavar="MODULE", help=f"a module with main(argv) -> int (default {TRAINER})"
    )


def run(args: argparse.Namespace) -> int:
    """Hand the arguments to the trainer, which has the torch that the command line does without."""
    train = cast(Callable[[Sequence[str]], int], load_function("trainer", args.trainer, "main", ("policies",)))
    argv = ["--dataset", str(args.dataset), "--out", str(args.out)]
    if args.steps is not None:
        argv += ["--steps", str(args.steps)]
    if args.resume:
        argv.append("--resume")
    for name, value in args.set:
        argv += [f"--{name.replace('_', '-')}", str(value)]
    return train(argv)

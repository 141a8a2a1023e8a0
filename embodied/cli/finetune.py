"""Train a policy on a recorded dataset, showing how it does as it goes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import cast

from embodied.modules import load_function

TRAINER = "policies.train"
EXAMPLE = f"""example:
  embodied finetune --dataset data/so101 --out runs/so101 --steps 20000
  embodied finetune --dataset data/so101 --out runs/so101 --steps 40000 --resume

The arguments go to {TRAINER}; a trainer of your own is a module with main(argv) -> int, named by --trainer.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the trainer; what is left over is the trainer's to read."""
    parser.add_argument("--trainer", default=TRAINER, metavar="MODULE", help=f"(default {TRAINER})")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the trainer's own: --dataset DIR --out DIR ...")


def run(args: argparse.Namespace) -> int:
    """Hand the arguments to the trainer."""
    train = cast(Callable[[Sequence[str]], int], load_function("trainer", args.trainer, "main", ("policies",)))
    return train(args.arguments)

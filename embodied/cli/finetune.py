"""Train a policy on a recorded dataset, showing how it does as it goes."""

from __future__ import annotations

import argparse
from pathlib import Path

from embodied.cli.arguments import natural_int, positive_int
from embodied.modules import load_function

TRAINER = "policies.train"
OPTIONAL = ("batch", "learning_rate", "weight_decay", "seed", "start", "chunk", "latents", "save_every")
EXAMPLE = """examples:
  embodied finetune --dataset data/so101 --out runs/so101 --steps 20000
  embodied finetune --dataset data/so101 --out runs/so101 --steps 20000 --resume
  embodied finetune --dataset data/mine --start runs/so101 --out runs/mine --steps 2000

Learnt from are the episodes that succeeded, and of the others only what an operator did in the policy's place.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is trained on, for how long, and where it is written; what is left out is the trainer's default."""
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="what embodied collect, or rollout --record, wrote"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the checkpoint and the log")
    parser.add_argument("--steps", type=positive_int, required=True, metavar="N", help="optimiser steps in all")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--start", type=Path, metavar="DIR", help="a checkpoint to go on from (default a fresh model)")
    parser.add_argument("--batch", type=positive_int, metavar="N", help="samples in a step")
    parser.add_argument("--learning-rate", type=float, metavar="X")
    parser.add_argument("--weight-decay", type=float, metavar="X")
    parser.add_argument("--seed", type=natural_int, metavar="N")
    parser.add_argument("--chunk", type=positive_int, metavar="N", help="actions that the policy answers with")
    parser.add_argument("--latents", type=positive_int, metavar="N", help="image tokens of a camera")
    parser.add_argument("--save-every", type=positive_int, metavar="N", help="steps between saves")


def run(args: argparse.Namespace) -> int:
    """Hand the arguments to the trainer, which has the torch that the command line does without."""
    config = load_function("trainer", TRAINER, "TrainConfig", ("policies",))
    train = load_function("trainer", TRAINER, "train", ("policies",))
    given = {name: value for name in OPTIONAL if (value := getattr(args, name)) is not None}
    out = train(config(dataset=args.dataset, out=args.out, steps=args.steps, **given), resume=args.resume)
    print(f"wrote {out}")
    return 0

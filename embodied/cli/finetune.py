"""Train a policy on a recorded dataset, from nothing or from a checkpoint, showing how it does as it goes."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from embodied.cli.arguments import positive_int

EXAMPLE = """examples:
  embodied finetune --dataset datasets/so101 --out runs/so101 --steps 20000
  embodied finetune --dataset datasets/so101 --out runs/so101 --steps 40000 --resume
  embodied finetune --dataset datasets/mine --out runs/mine --steps 2000 --from policies/checkpoints/so101
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is trained on, for how long, and where it is written."""
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="what embodied collect wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the checkpoint and the log")
    parser.add_argument(
        "--steps", type=positive_int, default=20_000, metavar="N", help="optimiser steps in all (20000)"
    )
    parser.add_argument("--from", dest="start", type=Path, metavar="DIR", help="a checkpoint to start from")
    parser.add_argument("--resume", action="store_true", help="go on from where the run in --out stopped")
    parser.add_argument("--batch", type=positive_int, default=64, metavar="N", help="examples a step (64)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help="after the warm-up (0.001)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the weights and of every batch (0)")
    parser.add_argument("--save-every", type=positive_int, default=500, metavar="N", help="steps between saves (500)")


def run(args: argparse.Namespace) -> int:
    """Train; torch is imported only now, since the command line does without."""
    trainer = importlib.import_module("policies.train")
    config = trainer.TrainConfig(
        dataset=args.dataset,
        out=args.out,
        steps=args.steps,
        batch=args.batch,
        learning_rate=args.learning_rate,
        seed=args.seed,
        start=args.start,
        save_every=args.save_every,
    )
    print(f"wrote {trainer.train(config, resume=args.resume)}")
    return 0

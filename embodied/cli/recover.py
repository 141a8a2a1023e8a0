"""Make a dataset of what an interrupted rollout had recorded, up to its last step."""

from __future__ import annotations

import argparse
from pathlib import Path

from embodied.cli.rollout_output import RECORDING, claimed, recover
from embodied.errors import EmbodiedError

EXAMPLE = """example:
  embodied recover runs/push.partial --out datasets/push

A rollout that fails does this by itself, if the disk has room; one that is killed leaves OUT.partial, to be recovered.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder and where the dataset goes."""
    parser.add_argument("folder", type=Path, metavar="OUT.partial", help="what the interrupted rollout left")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder of the dataset (default OUT.partial/{RECORDING})"
    )


def run(args: argparse.Namespace) -> int:
    """Recover, and print what was found."""
    if args.out is not None and args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        raise EmbodiedError(f"{args.out} is there already and not an empty folder; choose another --out")
    if not args.folder.is_dir():
        raise EmbodiedError(f"{args.folder} is no folder that a rollout left")
    with claimed(args.folder):
        print(recover(args.folder, args.out or args.folder / RECORDING))
    return 0

"""Record demonstrations of a robot's scripted expert as a LeRobot v3.0 dataset."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from embodied.cli.arguments import add_checkpoint, add_robot_options, natural_int, positive_int
from embodied.errors import EmbodiedError
from embodied.loop import FIRST_EVALUATION_SEED
from embodied.modules import open_policy
from embodied.recording.collection import Collection, Plan
from embodied.recording.workers import probe
from embodied.versions import installed

EXAMPLE = """example:
  embodied collect --robot envs.so101 --task reach,push --episodes 500 --out datasets/so101
  embodied collect --robot envs.so101 --task push --episodes 200 --seed 20000 --driver policies.token --out data/more

A killed collection keeps what it finished: the same command with --resume goes on, with --finish ends it there.
Half of the episodes are disturbed by bursts of wrong actions; the actions recorded are always the expert's own answer.
"""

PACKAGES = ("embodied-runtime", "numpy", "pyarrow", "opencv-python-headless", "mujoco", "gymnasium", "mink")


class CollectArgumentError(EmbodiedError):
    """Arguments that make no collection."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add = parser.add_argument
    add("--robot", required=True, metavar="MODULE", help="robot module that offers an expert, as in envs.so101")
    add("--task", default="all", metavar="T[,T]", help="tasks, or all of the robot's (default)")
    add(
        "--episodes",
        type=positive_int,
        required=True,
        metavar="N",
        help="seeds to attempt a task; failures are dropped",
    )
    add("--seed", type=natural_int, default=0, metavar="S", help="first seed (default 0)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the dataset; new or empty")
    add(
        "--workers", type=positive_int, default=os.cpu_count() or 1, metavar="W", help="processes (default: one a core)"
    )
    add("--perturb", type=float, default=0.5, metavar="P", help="share of episodes that are disturbed (default 0.5)")
    add("--driver", metavar="MODULE", help="a policy that acts until the expert takes over, to learn from its mistakes")
    add_checkpoint(parser)
    add_robot_options(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with the unfinished collection in DIR")
    how.add_argument("--finish", action="store_true", help="make a dataset of what DIR holds, recording no more")


def run(args: argparse.Namespace) -> int:
    """Collect, and print what came of it."""
    _check(args)
    options = dict(args.option)
    names = () if args.task == "all" else tuple(dict.fromkeys(args.task.split(",")))
    found = probe(args.robot, options, names, args.seed)
    plan = Plan(args.robot, options, names or found.spec.tasks, args.episodes, args.seed, args.perturb)
    if args.driver is not None:
        plan = replace(plan, driver=args.driver, checkpoint=args.checkpoint)
        open_policy(args.driver, args.checkpoint, {})  # a bad checkpoint is told now, not once a worker
    collection = Collection(args.out, plan, found, resume=args.resume or args.finish)
    began_s = time.monotonic()
    rows = 0 if args.finish else collection.run(args.workers)
    took_s = time.monotonic() - began_s
    versions = {"python": platform.python_version(), **installed(PACKAGES)}
    result = collection.assemble({"command": ["embodied", *sys.argv[1:]], "versions": versions})
    _report(args.out, result)
    if rows:
        print(f"{rows} rows in {took_s:.0f} s: {rows / took_s:.1f} rows/s with {args.workers} workers")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.seed + args.episodes > FIRST_EVALUATION_SEED:
        raise CollectArgumentError(
            f"seeds {args.seed} to {args.seed + args.episodes - 1} are not all in 0 to {FIRST_EVALUATION_SEED - 1}; "
            "those above are for evaluation"
        )
    if not 0.0 <= args.perturb <= 1.0:
        raise CollectArgumentError(f"--perturb is a share from 0 to 1, got {args.perturb}")


def _report(out: Path, result: Mapping[str, Any]) -> None:
    for task, tally in result["tasks"].items():
        print(f"{task}: {tally['kept']} of {tally['attempted']} episodes kept, {tally['rows']} rows")
        for failure in tally["failed"][:5]:
            print(f"  seed {failure['seed']} dropped: {failure['reason']}")
        if len(tally["failed"]) > 5:
            print(f"  and {len(tally['failed']) - 5} more, in {out}/meta/collection.json")
    print(f"dataset: {out}")

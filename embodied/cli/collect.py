"""Record demonstrations, of a robot's scripted expert or an operator, as a LeRobot v3.0 dataset."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embodied.cli.arguments import (
    add_checkpoint,
    add_connection,
    add_robot_options,
    natural_int,
    positive_float,
    positive_int,
)
from embodied.cli.teleoperation import DEVICES, add_teleoperator, check_teleoperator
from embodied.errors import EmbodiedError
from embodied.hosting import PolicyProcess
from embodied.loop import FIRST_EVALUATION_SEED
from embodied.modules import is_address, open_policy, policy_origin
from embodied.recording.collection import Collection
from embodied.recording.demonstration import (
    SHORTEST_BURST_STEPS,
    SHORTEST_DRIVE_STEPS,
    TAKEOVER_STEPS,
    USUAL,
    Bursts,
)
from embodied.recording.plan import Drive, Plan
from embodied.recording.staging import joined_before
from embodied.recording.video_writer import CODECS, DEFAULT_CODEC
from embodied.recording.workers import probe
from embodied.versions import installed

EXAMPLE = """example:
  embodied collect --robot envs.so101 --task reach,push --episodes 500 --out datasets/so101
  .venv-metaworld/bin/embodied collect --robot envs.metaworld --episodes 150 --keep 50 --rehearse --out data/mt50
  embodied collect --robot envs.so101 --episodes 500 --scenes 3 --seed 30000 --out data/scenes
  embodied collect --robot envs.so101 --task push --episodes 200 --seed 20000 --driver policies.token --out data/more
  .venv-metaworld/bin/embodied collect --robot envs.metaworld --episodes 20 --seed 2000 --driver policies.token \\
      --driver-env .venv --checkpoint runs/mt50 --driver-steps 150 --rehearse --out data/mt50_driven
  embodied collect --teleop keyboard --robot envs.so101 --option horizon_s=120 --task pick_place --episodes 5 \\
      --show 8000 --out data/mine
  embodied collect --teleop leader --leader embodied.robots.so101 --leader-option port=/dev/ttyACM1 \\
      --leader-option calibration=leader.json --robot embodied.robots.so101 --option port=/dev/ttyACM0 \\
      --task pick_place --episodes 50 --out data/pick_place

A killed collection keeps what it finished: the same command with --resume goes on, with --finish ends it there.
Half of the expert's episodes are disturbed by bursts of wrong actions; those recorded are its own answers.

With --teleop an operator drives and judges: right arrow or Enter ends an episode as a success, f or down as a failure,
left begins it again, d discards it, m marks the moment, Esc or q stops. Finished episodes are on the disk at once. A
session that was stopped or killed goes on with --resume; --finish joins what there is.
"""

PACKAGES = (
    *("embodied-runtime", "numpy", "pyarrow", "opencv-python-headless"),
    *("mujoco", "gymnasium", "mink", "metaworld"),
)

# What holds where nothing is said: None in the arguments tells what was not.
DEFAULTS = {
    "perturb": 0.5,
    "bursts": USUAL.most,
    "burst_steps": USUAL.steps,
    "driver_steps": TAKEOVER_STEPS,
    "length_s": 60.0,
    "reset_s": 5,
}
DEMONSTRATIONS = ("driver", "keep", "rehearse", "perturb", "bursts", "burst_steps")
WITH_DRIVER = ("checkpoint", "policy_option", "driver_steps")
WITH_TELEOP = ("instruction", "length_s", "reset_s", "show", "tls", "token", "takeover")


class CollectArgumentError(EmbodiedError):
    """Arguments that make no collection."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add = parser.add_argument
    add(
        "--robot",
        required=True,
        metavar="MODULE|ADDRESS",
        help="as in envs.so101, whose module offers an expert; with --teleop an address too",
    )
    add("--task", default="all", metavar="T[,T]", help="tasks, or all of the robot's (default)")
    add(
        "--episodes",
        type=positive_int,
        required=True,
        metavar="N",
        help="seeds to attempt a task, whose failures are dropped; with --teleop episodes to keep of each",
    )
    add("--keep", type=positive_int, metavar="K", help="successes of a task that are enough: the first ones, by seed")
    add(
        "--rehearse",
        action="store_true",
        help="play each episode without frames first, and record those that succeed: quicker where failures are long",
    )
    add(
        "--scenes",
        type=positive_int,
        metavar="K",
        help="in place of demonstrations K labelled pictures of each seed's scene, the robot moved at random between",
    )
    add("--seed", type=natural_int, default=0, metavar="S", help="first seed (default 0)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the dataset; new or empty")
    add(
        "--workers",
        type=positive_int,
        metavar="W",
        help="processes (default: one a core, at most 8 where the driver is served)",
    )
    add(
        "--perturb",
        type=float,
        metavar="P",
        help=f"share of episodes that are disturbed (default {DEFAULTS['perturb']})",
    )
    add(
        "--bursts",
        type=positive_int,
        metavar="N",
        help=f"bursts of wrong actions in a disturbed episode, at most (default {DEFAULTS['bursts']})",
    )
    add(
        "--burst-steps",
        type=positive_int,
        metavar="N",
        help=f"steps of a burst, at most (default {DEFAULTS['burst_steps']}, at least {SHORTEST_BURST_STEPS})",
    )
    add(
        "--driver",
        metavar="MODULE|ADDRESS",
        help="a policy that acts until the expert takes over, to learn from its mistakes",
    )
    add(
        "--driver-env",
        type=Path,
        metavar="DIR",
        help="the driver runs by the Python of this virtual environment, one for all workers",
    )
    add(
        "--driver-steps",
        type=positive_int,
        metavar="N",
        help=f"the expert takes over within so many steps (default {TAKEOVER_STEPS}, at least {SHORTEST_DRIVE_STEPS})",
    )
    add(
        "--video",
        choices=tuple(CODECS),
        nargs="?",
        const=DEFAULT_CODEC,
        help=f"frames as videos ({DEFAULT_CODEC} unless said), not pictures: a tenth of the size, colours blurred",
    )
    add_checkpoint(parser)
    add_robot_options(parser)
    _add_operated(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with the unfinished collection in DIR")
    how.add_argument("--finish", action="store_true", help="make a dataset of what DIR holds, recording no more")


def _add_operated(parser: argparse.ArgumentParser) -> None:
    """Add what goes with an operator."""
    add = parser.add_argument
    add("--teleop", choices=DEVICES, help="an operator drives, in the expert's place")
    add_teleoperator(parser)
    add("--instruction", metavar="TEXT", help="recorded in place of the robot's own (with --teleop)")
    add(
        "--length-s", type=positive_float, metavar="S", help=f"of an episode at most (default {DEFAULTS['length_s']:g})"
    )
    reset = f"to lay out the scene (default {DEFAULTS['reset_s']}); Enter ends it"
    add("--reset-s", type=natural_int, metavar="S", help=reset)
    add("--show", type=natural_int, metavar="PORT", help="show the cameras to a browser on this machine; 0: any port")
    add_connection(parser)
    add("--takeover", action="store_true", help="take the robot from whoever holds it")


def run(args: argparse.Namespace) -> int:
    """Collect, and print what came of it."""
    _check_partners(args)
    _fill_in(args)
    _check(args)
    joined = joined_before(args.out) if args.resume or args.finish else None
    if joined is not None:
        _report(args.out, joined)  # a kill came between the dataset and clearing up
        return 0
    about = {
        "command": ["embodied", *sys.argv[1:]],
        "versions": {"python": platform.python_version(), **installed(PACKAGES)},
    }
    if args.teleop:
        from embodied.cli.collect_operated import run_operated  # an expert needs no terminal

        if (result := run_operated(args, about)) is None:
            return 0
        _report(args.out, result)
        return 0
    return _run_expert(args, about)


def _run_expert(args: argparse.Namespace, about: Mapping[str, Any]) -> int:
    options = dict(args.option)
    names = () if args.task == "all" else tuple(dict.fromkeys(args.task.split(",")))
    found = probe(args.robot, options, names, args.seed)
    with contextlib.ExitStack() as stack:
        plan = Plan(
            args.robot,
            options,
            names or found.spec.tasks,
            args.episodes,
            args.seed,
            args.perturb,
            Bursts(args.bursts, args.burst_steps),
            _drive(args, stack) if args.driver is not None and not args.finish else None,
            keep=args.keep,
            rehearse=args.rehearse,
            scenes=args.scenes or 0,
        )
        collection = Collection(args.out, plan, found, resume=args.resume, finish=args.finish)
        began_s = time.monotonic()
        rows = 0 if args.finish else collection.run(args.workers)
        took_s = time.monotonic() - began_s
    result = collection.assemble(about, video=args.video)
    _report(args.out, result)
    if rows:
        print(f"{rows} rows in {took_s:.0f} s: {rows / took_s:.1f} rows/s with {args.workers} workers")
    return 0


def _drive(args: argparse.Namespace, stack: contextlib.ExitStack) -> Drive:
    """Open the driver, so that a bad one is told now and not once a worker, and say what it is made from.

    One of another environment is served from there until the stack is closed.
    """
    name, checkpoint, options = args.driver, args.checkpoint, dict(args.policy_option)
    if args.driver_env is not None:
        server = stack.enter_context(PolicyProcess(name, checkpoint, options, args.driver_env))
        name, checkpoint, options = server.address, None, {}
    opened = open_policy(name, checkpoint, options)
    opened.close()
    origin = opened.origin or policy_origin(name, opened.checkpoint, opened.options)
    return Drive(name, checkpoint, options, args.driver_steps, origin)


def _check_partners(args: argparse.Namespace) -> None:
    """Raise CollectArgumentError for an option that would do nothing beside the others."""
    check_teleoperator(args, args.teleop, "--teleop")
    refused: dict[str, tuple[str, ...]] = {}  # why -> options
    if args.teleop:
        refused["an expert, and --teleop takes its place"] = (*DEMONSTRATIONS, "scenes", "workers")
    else:
        refused["--teleop"] = WITH_TELEOP
    if args.scenes:
        refused["demonstrations, and --scenes takes their place"] = DEMONSTRATIONS
    if not args.driver:
        refused["--driver"] = WITH_DRIVER
    for partner, names in refused.items():
        for name in names:
            if (given := getattr(args, name)) is not None and given is not False and given != []:
                raise CollectArgumentError(f"--{name.replace('_', '-')} goes with {partner}")


def _fill_in(args: argparse.Namespace) -> None:
    """Put what holds where nothing was said; a worker a core, but no more than a driver's server has room for."""
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.workers is None:
        served = args.driver and (args.driver_env or is_address(args.driver))
        args.workers = min(os.cpu_count() or 1, _sessions() if served else sys.maxsize)


def _sessions() -> int:
    from embodied.bridge.policy_server import MAX_SESSIONS  # --help is quick without grpc

    return MAX_SESSIONS


def _check(args: argparse.Namespace) -> None:
    if args.keep is not None and args.keep > args.episodes:
        raise CollectArgumentError(f"of {args.episodes} episodes no {args.keep} can be kept; raise --episodes")
    if args.seed + args.episodes > FIRST_EVALUATION_SEED:
        raise CollectArgumentError(
            f"seeds {args.seed} to {args.seed + args.episodes - 1} are not all in 0 to {FIRST_EVALUATION_SEED - 1}; "
            "those above are for evaluation"
        )
    if not 0.0 <= args.perturb <= 1.0:
        raise CollectArgumentError(f"--perturb is a share from 0 to 1, got {args.perturb}")
    if args.burst_steps < SHORTEST_BURST_STEPS:
        raise CollectArgumentError(f"--burst-steps is at least {SHORTEST_BURST_STEPS}, got {args.burst_steps}")
    if args.driver_env and (not args.driver or is_address(args.driver)):
        raise CollectArgumentError("--driver-env goes with a --driver that is a policy's module")
    if args.driver_env and args.workers > (room := _sessions()):
        raise CollectArgumentError(f"a policy server has room for {room} sessions, and --workers is {args.workers}")
    if args.driver_steps < SHORTEST_DRIVE_STEPS:
        raise CollectArgumentError(f"--driver-steps is at least {SHORTEST_DRIVE_STEPS}, got {args.driver_steps}")


def _report(out: Path, result: Mapping[str, Any]) -> None:
    for task, tally in result["tasks"].items():
        if "attempted" not in tally:
            judged = f"{tally['successes']} successes, {tally['failures']} failures"
            print(f"{task}: {tally['kept']} episodes ({judged}; {tally['discarded']} discarded), {tally['rows']} rows")
            continue
        print(f"{task}: {tally['kept']} of {tally['attempted']} episodes kept, {tally['rows']} rows")
        for failure in tally["failed"][:5]:
            print(f"  seed {failure['seed']} dropped: {failure['reason']}")
        if len(tally["failed"]) > 5:
            print(f"  and {len(tally['failed']) - 5} more, in {out}/meta/collection.json")
    print(f"dataset: {out}")

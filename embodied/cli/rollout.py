"""Run a policy on a robot, episode by episode, and write a report, a summary, videos and a recording."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from embodied.cli.arguments import (
    add_checkpoint,
    add_connection,
    add_robot_options,
    duration_s,
    natural_int,
    positive_int,
)
from embodied.cli.rollout_output import (
    DELAYS,
    EPISODES,
    RECORDING,
    SPOOLS,
    STRIPS,
    VIDEOS,
    claimed,
    episode_line,
    rescue,
    write,
)
from embodied.cli.rollout_protocol import protocol_of, run_notes, versions_of
from embodied.cli.rollout_setup import setup_of
from embodied.cli.teleoperation import DEVICES, add_teleoperator, asks_here
from embodied.delay import MODES, Execution
from embodied.errors import EmbodiedError
from embodied.hosting import PolicyProcess
from embodied.journal import FILE as JOURNAL
from embodied.journal import Journal, Key
from embodied.loop import FIRST_EVALUATION_SEED, MAX_STEPS, Episode
from embodied.modules import is_address
from embodied.output import output_folder
from embodied.report import succeeded_alone
from embodied.rollouts import EXPERT, InProcess, Job, Setup
from embodied.types import RobotSpec
from embodied.workers import Workers

MAX_DELAY_MS = 60_000

EXAMPLE = """examples:
  embodied rollout --robot envs.so101 --policy policies.token --checkpoint policies/checkpoints/so101 \\
      --task all --episodes 200 --workers 2 --remote --out runs/so101
  embodied rollout --robot envs.so101 --policy expert --task stack --episodes 20 --out runs/expert
  embodied rollout --robot 127.0.0.1:50051 --policy 127.0.0.1:50052 --task reach --episodes 5 --out runs/remote
  embodied rollout --robot 127.0.0.1:50051,127.0.0.1:50061 --policy 127.0.0.1:50052 --task reach \\
      --episodes 20 --out runs/two
  embodied rollout --robot envs.metaworld --robot-env .venv-metaworld --workers 4 --policy policies.random \\
      --shared-policy --task all --episodes 20 --strips --resume --out runs/mt50
  embodied rollout --robot envs.so101 --policy policies.token --task push --episodes 50 --record 50 --out runs/push
  embodied rollout --robot envs.so101 --policy policies.token --task pick_place --episodes 100 \\
      --delay-ms 0,50,100,200,500 --workers 2 --out runs/delay
  embodied rollout --robot envs.so101 --policy policies.token --task stack --episodes 10 --record 10 \\
      --intervene keyboard --out runs/helped

With several workers, or addresses, each has a robot; --shared-policy lets one server answer all. An episode whose robot
is lost is run again by another worker. A rollout that is killed goes on with --resume, by the same command, unless it
has --record: of what that left embodied recover makes a dataset.

runs/push/recording is then a dataset for embodied finetune; judge what learnt from it on other seeds (--seed). Of a
rollout that fails, what was recorded and filmed so far stays in OUT.partial.

In mode sync the robot holds while the policy thinks; in mode async it moves on, and each chunk is blended into the plan
(the chunks must be longer than the delay; policies.token hands out whole ones then, and a policy server has to be
started so that it does: embodied serve policies.token --policy-option horizon=12 --policy-option ensemble=false).
--delay-ms counts in simulated time, each delay rounded up to control periods, and so needs a robot in lock step.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is run, how often, and where it is written."""
    parser.add_argument(
        "--robot",
        required=True,
        metavar="MODULE|ADDRESS[,ADDRESS2]",
        help="as in envs.so101 or 127.0.0.1:50051; several addresses share the episodes",
    )
    parser.add_argument(
        "--policy", required=True, metavar="MODULE|ADDRESS", help=f"or {EXPERT!r}: the robot module's own scripted one"
    )
    add_checkpoint(parser)
    add_robot_options(parser)
    parser.add_argument("--task", required=True, metavar="T[,T2]|all", help="tasks of the robot")
    parser.add_argument("--episodes", type=positive_int, required=True, metavar="N", help="for each task")
    parser.add_argument(
        "--seed",
        type=natural_int,
        default=FIRST_EVALUATION_SEED,
        help=f"of the first episode; the next has one more (default {FIRST_EVALUATION_SEED})",
    )
    parser.add_argument("--instruction", metavar="TEXT", help="said in place of the robot's own")
    parser.add_argument("--max-steps", type=positive_int, default=MAX_STEPS, metavar="N", help="end an episode there")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for what is written")
    parser.add_argument("--force", action="store_true", help="replace an earlier report at --out")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what an interrupted rollout left in DIR.partial, or begin"
    )
    parser.add_argument("--workers", type=positive_int, metavar="W", help="processes (default 1, or one an address)")
    parser.add_argument("--remote", action="store_true", help="drive the robot's module over gRPC, in its own process")
    parser.add_argument(
        "--robot-env",
        type=Path,
        metavar="DIR",
        help="as --remote, hosted by the Python of this virtual environment, as in .venv-metaworld",
    )
    parser.add_argument(
        "--shared-policy", action="store_true", help="one policy server for all workers, which answers them together"
    )
    parser.add_argument("--videos", type=natural_int, default=2, metavar="K", help="for each task (default 2)")
    parser.add_argument("--strips", action="store_true", help="a picture of one failure a task: frames of it in a row")
    parser.add_argument(
        "--record", type=natural_int, default=0, metavar="K", help="for each task, as a LeRobot dataset (default 0)"
    )
    parser.add_argument(
        "--delay-ms", type=delays, metavar="D[,D2]", help="simulate these delays of the policy, in both modes or --mode"
    )
    parser.add_argument("--mode", choices=MODES, help="whether the robot waits for the policy (default sync)")
    parser.add_argument(
        "--intervene", choices=DEVICES, help="an operator may take over, correct, and hand back; rows and report say so"
    )
    add_teleoperator(parser)
    parser.add_argument("--camera", action="append", default=[], metavar="NAME", help="drawn in videos (default all)")
    _add_addressed(parser)


def _add_addressed(parser: argparse.ArgumentParser) -> None:
    """Add what goes with a robot or policy at an address."""
    add_connection(parser)
    parser.add_argument("--takeover", action="store_true", help="take the robot from whoever holds it")
    parser.add_argument(
        "--max-age-s", type=duration_s, metavar="S", help="the robot drops actions that answer what is older"
    )
    parser.add_argument(
        "--within-s", type=duration_s, metavar="S", help="a chunk that takes longer is none (with --mode async)"
    )
    parser.add_argument("--frames", metavar="HOW", help="raw, jpeg, jpeg:QUALITY or shared (default: what is quickest)")


def robots_of(text: str) -> list[str]:
    """Read addresses with commas between them; anything else is one robot."""
    parts = text.split(",")
    return parts if len(parts) > 1 and all(map(is_address, parts)) else [text]


def delays(text: str) -> tuple[int, ...]:
    """Read milliseconds with commas between them."""
    found = tuple(dict.fromkeys(map(natural_int, text.split(","))))
    if max(found) > MAX_DELAY_MS:
        raise argparse.ArgumentTypeError(f"a delay of {max(found)} ms; at most {MAX_DELAY_MS}")
    return found


def run(args: argparse.Namespace) -> int:
    """Run the episodes; write report.json, summary.md, episodes.jsonl and what was asked to be watched, or nothing."""
    args.robots = robots_of(args.robot)
    args.robot = args.robots[0]  # the others are like it
    args.workers = args.workers or len(args.robots)
    setup = setup_of(args)
    began_s = time.monotonic()
    begun = str(JOURNAL) if args.resume else None
    out = output_folder(args.out, marker="report.json", force=args.force, keep=rescue, begun=begun, claim=claimed)
    with out as folder:
        with _running(args, setup) as workers:
            opened, spec = workers.opened, workers.opened.spec
            jobs = _jobs(args, spec, folder)
            for name in setup.cameras:
                spec.camera(name)
            protocol = protocol_of(setup, opened, jobs)
            executions = [e.to_dict() for e in _executions(args)]
            journal = Journal(folder, {**protocol, "executions": executions, "versions": versions_of(opened)})
            results = _from_before(journal, jobs)
            resumed = len(results)
            running = workers.run([job for job in jobs if job not in results])
            results |= dict(_progress(_noted(running, folder, journal, results), len(jobs), results))
        ordered = {job: results[job] for job in jobs}
        write(folder, protocol, ordered, run_notes(args, opened, time.monotonic() - began_s, resumed))
        journal.close()  # only now: on a disk that is full --resume writes what could not be written here
        summary = (folder / "summary.md").read_text(encoding="utf-8")
    print(summary)
    also = [RECORDING] * bool(args.record) + [DELAYS] * (len(executions) > 1)
    print(" and ".join([f"wrote {args.out}/report.json", *(f"{args.out}/{path}" for path in also)]))
    return 0


@contextmanager
def _running(args: argparse.Namespace, setup: Setup) -> Iterator[Workers | InProcess]:
    """Run where the terminal is if somebody is asked something there, else in processes of their own."""
    with ExitStack() as stack:
        if args.shared_policy:
            server = stack.enter_context(PolicyProcess(setup.policy, setup.checkpoint, setup.policy_options))
            setup = replace(setup, shared_policy=server.address)
        if args.intervene:
            from embodied.cli.intervention import watched  # what nobody watches needs no terminal

            yield stack.enter_context(InProcess(setup, lambda robot: watched(args, robot)))
        elif args.workers == 1 and not (args.remote or args.robot_env) and asks_here(args.robot, dict(args.option)):
            yield stack.enter_context(InProcess(setup))
        else:
            robots = args.robots if len(args.robots) > 1 else args.robots * args.workers
            setups = [replace(setup, robot=robot) for robot in robots]
            yield stack.enter_context(Workers(setups, lambda words: print(f"\n{words}", file=sys.stderr)))


def _jobs(args: argparse.Namespace, spec: RobotSpec, folder: Path) -> list[Job]:
    """Lay out the episodes: the i-th of every task has the seed --seed + i, whoever runs it and however.

    Of several executions the first is the one that is watched.
    """
    tasks = list(spec.tasks) if args.task == "all" else list(dict.fromkeys(args.task.split(",")))
    if not tasks:
        raise EmbodiedError(f"{spec.name} has no tasks")
    for task in tasks:
        spec.require_task(task)
    jobs: list[Job] = []
    for execution in _executions(args):
        for task in tasks:
            safe = re.sub(r"[^-.\w]", "_", task)  # a robot across a network names its tasks, not our folders
            for i in range(args.episodes):
                seed, watched = args.seed + i, not jobs or execution == jobs[0].execution
                video = folder / VIDEOS / f"{safe}_{seed}.mp4" if watched and i < args.videos else None
                recording = folder / SPOOLS / f"{len(jobs):06d}.arrow" if watched and i < args.record else None
                strip = folder / STRIPS / f"{safe}_{seed}.png" if watched and args.strips else None
                jobs.append(Job(task, seed, execution, video, recording, strip))
    return jobs


def _executions(args: argparse.Namespace) -> list[Execution]:
    if args.delay_ms is None:
        return [Execution(args.mode or "sync")]
    return [Execution(mode, ms) for ms in args.delay_ms for mode in ([args.mode] if args.mode else MODES)]


def key_of(job: Job) -> Key:
    """Return what an episode is known by in the journal of its rollout."""
    return (job.task, job.seed, *job.execution.to_dict().values())


def _from_before(journal: Journal, jobs: Sequence[Job]) -> dict[Job, Episode]:
    """Return the jobs that are done, but for those whose video was not asked for then."""
    found = {job: journal.finished.get(key_of(job)) for job in jobs if job.video is None or job.video.exists()}
    return {job: episode for job, episode in found.items() if episode is not None}


def _noted(
    results: Iterator[tuple[Job, Episode]], folder: Path, journal: Journal, before: Mapping[Job, Episode]
) -> Iterator[tuple[Job, Episode]]:
    """Write each episode as it ends, so that a fault loses none: its line, after those from before, and the journal."""
    with (folder / EPISODES).open("w", encoding="utf-8", buffering=1) as lines:
        lines.writelines(episode_line(*result) for result in before.items())
        for job, episode in results:
            lines.write(episode_line(job, episode))
            journal.add(key_of(job), episode)
            yield job, episode


def _progress(
    results: Iterator[tuple[Job, Episode]], total: int, before: Mapping[Job, Episode]
) -> Iterable[tuple[Job, Episode]]:
    if not find_spec("tqdm"):
        yield from results
        return
    from tqdm import tqdm  # a robot's own computer need not have it

    done, successes = len(before), sum(map(succeeded_alone, before.values()))
    interval_s = 0.1 if sys.stderr.isatty() else 10.0  # a log file wants few lines
    with tqdm(total=total, initial=done, unit="episode", dynamic_ncols=True, mininterval=interval_s) as bar:
        for job, episode in results:
            done, successes = done + 1, successes + succeeded_alone(episode)
            bar.set_postfix_str(f"{successes}/{done} succeeded", refresh=False)
            bar.update()
            yield job, episode

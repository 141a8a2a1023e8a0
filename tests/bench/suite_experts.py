"""How often the experts of envs.pusht and envs.aloha succeed: `.venv-gym/bin/python -m tests.bench.suite_experts`."""

from __future__ import annotations

import argparse
import importlib
import time
from dataclasses import dataclass

import numpy as np

from embodied.intervals import wilson_interval
from embodied.recording.demonstration import demonstrate
from embodied.safety import Body, SafeRobot
from embodied.types import Policy

ROBOTS = ("envs.pusht", "envs.aloha")


@dataclass(frozen=True)
class Played:
    """What came of one episode."""

    seed: int
    success: bool
    steps: int
    wall_s: float


def play(robot: SafeRobot[Body], expert: Policy, task: str, seed: int, *, perturb: float) -> Played:
    """Run one episode as the collector does, without frames."""
    start_s = time.perf_counter()
    episode = demonstrate(robot, expert, task=task, seed=seed, perturb=perturb, frames=False)
    return Played(seed, episode.succeeded, len(episode), time.perf_counter() - start_s)


def line(task: str, perturb: float, played: list[Played]) -> str:
    """Return the table's line for a task's episodes."""
    won = [p.steps for p in played if p.success]
    low, high = wilson_interval(len(won), len(played))
    failed = [p.seed for p in played if not p.success]
    return (
        f"{task:<15}{perturb:<9g}{f'{len(won)}/{len(played)}':<10}{f'[{low:.3f}, {high:.3f}]':<17}"
        f"{np.mean(won) if won else np.nan:<8.1f}{np.mean([p.wall_s for p in played]):.2f}"
        + (f"   failed seeds: {failed[:12]}" if failed else "")
    )


def main() -> None:
    """Print a line for each task, left alone and disturbed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", choices=ROBOTS, default=ROBOTS[0])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000, help="the first seed; the others count up from it")
    parser.add_argument("--tasks", nargs="+", help="all of the robot's unless given")
    parser.add_argument("--perturb", type=float, nargs="+", default=[0.0], help="shares of episodes to disturb")
    args = parser.parse_args()
    module = importlib.import_module(args.robot)
    robot = module.make(render=False)
    expert = module.expert(robot)
    seeds = range(args.seed, args.seed + args.episodes)
    print(f"{'task':<15}{'perturb':<9}{'success':<10}{'wilson 95 %':<17}{'steps':<8}s an episode")
    for task in args.tasks or robot.spec.tasks:
        for perturb in args.perturb:
            played = [play(robot, expert, task, seed, perturb=perturb) for seed in seeds]
            print(line(task, perturb, played), flush=True)


if __name__ == "__main__":
    main()

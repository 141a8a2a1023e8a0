"""How often the scripted experts succeed, left alone and disturbed: `python -m tests.bench.experts --episodes 300`."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from embodied.intervals import wilson_interval
from embodied.recording.demonstration import Disturbance
from embodied.safety import SafeRobot
from embodied.types import PoseAction
from envs.expert import Expert
from envs.so101 import SO101, make


@dataclass(frozen=True)
class Played:
    """What came of one episode."""

    seed: int
    success: bool
    steps: int
    acting_s: tuple[float, ...]


def play(robot: SafeRobot[SO101], expert: Expert, task: str, seed: int, *, disturbed: bool) -> Played:
    """Run one episode as the collector does, its commands disturbed in bursts if asked for."""
    observation = robot.reset(seed, task)
    expert.reset(observation.instruction, robot.spec)
    disturbance = Disturbance(robot.spec, np.random.default_rng(seed)) if disturbed else None
    acting_s: list[float] = []
    while True:
        start_s = time.perf_counter()
        (action,) = expert.act(observation)
        acting_s.append(time.perf_counter() - start_s)
        assert isinstance(action, PoseAction)
        values = disturbance.apply(len(acting_s) - 1, action.values) if disturbance else action.values
        step = robot.step(PoseAction(values), frames=False)
        observation = step.observation
        if step.done:
            return Played(seed, step.success, len(acting_s), tuple(acting_s))


def line(task: str, disturbed: bool, played: list[Played]) -> str:
    """Return the table's line for a task's episodes."""
    won = [p.steps for p in played if p.success]
    low, high = wilson_interval(len(won), len(played))
    acting_ms = 1e3 * np.concatenate([p.acting_s for p in played])
    failed = [p.seed for p in played if not p.success]
    return (
        f"{task:<12}{'yes' if disturbed else 'no':<11}{f'{len(won)}/{len(played)}':<11}"
        f"{f'[{low:.3f}, {high:.3f}]':<17}{np.mean(won) if won else np.nan:<8.1f}"
        f"{np.median(acting_ms):.2f} / {np.quantile(acting_ms, 0.95):.2f}"
        + (f"   failed seeds: {failed[:10]}" if failed else "")
    )


def main() -> None:
    """Print a line for each task, left alone and disturbed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1_000_000, help="the first seed; the others count up from it")
    parser.add_argument("--tasks", nargs="+", default=["reach", "push", "pick_place", "stack"])
    args = parser.parse_args()
    robot = make(render=False)
    expert = Expert(robot.body)
    seeds = range(args.seed, args.seed + args.episodes)
    print(f"{'task':<12}{'disturbed':<11}{'success':<11}{'wilson 95 %':<17}{'steps':<8}act p50 / p95 in ms")
    for task in args.tasks:
        for disturbed in (False, True):
            played = [play(robot, expert, task, seed, disturbed=disturbed) for seed in seeds]
            print(line(task, disturbed, played), flush=True)


if __name__ == "__main__":
    main()

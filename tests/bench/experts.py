"""How often the scripted experts succeed, undisturbed and pushed about: `python -m tests.bench.experts --episodes 300`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import numpy as np

from embodied.report import wilson_interval
from embodied.types import PoseAction
from envs.expert import Expert
from envs.so101 import SO101, make

BURST_RAD = 0.15
BURSTS = (1, 2)
BURST_STEPS = (3, 8)
BURST_BEFORE_STEP = 30


def bursts(rng: np.random.Generator) -> Mapping[int, np.ndarray]:
    """Return the joint offsets (6,) rad to add to the commands of an episode, by step."""
    offsets = {}
    for _ in range(rng.integers(BURSTS[0], BURSTS[1] + 1)):
        start, steps = rng.integers(BURST_BEFORE_STEP), rng.integers(BURST_STEPS[0], BURST_STEPS[1] + 1)
        offset = rng.uniform(-BURST_RAD, BURST_RAD, 6)
        offsets.update({int(start + i): offset for i in range(steps)})
    return offsets


def play(robot: SO101, expert: Expert, task: str, seed: int, *, disturbed: bool) -> tuple[bool, int, float]:
    """Run one episode; return success, control steps, and the slowest act in seconds."""
    observation = robot.reset(seed, task)
    expert.reset(observation.instruction, robot.spec)
    offsets = bursts(np.random.default_rng(seed)) if disturbed else {}
    slowest_s, steps = 0.0, 0
    while True:
        start_s = time.perf_counter()
        (action,) = expert.act(observation)
        slowest_s = max(slowest_s, time.perf_counter() - start_s)
        assert isinstance(action, PoseAction)
        values = action.values + offsets.get(steps, np.zeros(6))
        step = robot.step(PoseAction(values.astype(np.float32)), frames=False)
        observation, steps = step.observation, steps + 1
        if step.done:
            return step.success, steps, slowest_s


def main() -> None:
    """Print a line for each task, undisturbed and disturbed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1_000_000, help="the first seed; later episodes count up")
    parser.add_argument("--tasks", nargs="+", default=["reach", "push", "pick_place", "stack"])
    args = parser.parse_args()
    robot = make(render=False)
    expert = Expert(robot)
    print(f"{'task':<12}{'disturbed':<11}{'successes':<12}{'wilson 95 %':<18}{'mean steps':<12}{'slowest act'}")
    for task in args.tasks:
        for disturbed in (False, True):
            seeds = range(args.seed, args.seed + args.episodes)
            played = [play(robot, expert, task, seed, disturbed=disturbed) for seed in seeds]
            won = [steps for success, steps, _ in played if success]
            low, high = wilson_interval(len(won), args.episodes)
            failed = [seed for seed, (success, _, _) in zip(seeds, played, strict=True) if not success]
            print(
                f"{task:<12}{disturbed!s:<11}{f'{len(won)}/{args.episodes}':<12}{f'[{low:.3f}, {high:.3f}]':<18}"
                f"{np.mean(won) if won else float('nan'):<12.1f}{1e3 * max(s for _, _, s in played):.1f} ms"
                + (f"  failed seeds {failed[:10]}" if failed else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()

"""How fast the simulated SO-101 steps on one core, with and without frames: `python -m tests.bench.simulator`."""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from embodied.safety import SafeRobot
from envs.so101 import SO101, expert, make

WARM_UP = 10
SEED = 1_000_000


def time_steps_ms(robot: SafeRobot[SO101], steps: int, *, frames: bool) -> list[float]:
    """Return the milliseconds of each step of the expert's episodes, its own thinking and the resets apart."""
    teacher, took, seed = expert(robot), list[float](), SEED
    while len(took) < steps + WARM_UP:
        observation = robot.reset(seed, robot.spec.tasks[seed % len(robot.spec.tasks)])
        teacher.reset(observation.instruction, robot.spec)
        seed, done = seed + 1, False
        while not done and len(took) < steps + WARM_UP:
            action = teacher.act(observation)[0]
            start_s = time.perf_counter()
            step = robot.step(action, frames=frames)
            took.append(1e3 * (time.perf_counter() - start_s))
            observation, done = step.observation, step.done
    return took[WARM_UP:]


def main() -> None:
    """Print a line with both cameras rendered and one without frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--size", type=int, default=128, help="pixels a side of each camera")
    args = parser.parse_args()
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa reads it at the first rendering
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    robot = make(size=args.size)
    cameras = " and ".join(f"{c.name} {c.width}x{c.height}" for c in robot.spec.cameras)
    print(f"one core, {args.steps} steps of 1/{robot.spec.control_hz:.0f} s; cameras: {cameras}")
    print(f"{'frames':<10}{'steps/s':>9}{'p50 ms':>9}{'p95 ms':>9}")
    for frames in (True, False):
        took = time_steps_ms(robot, args.steps, frames=frames)
        rate = 1e3 * len(took) / sum(took)
        print(f"{'both' if frames else 'none':<10}{rate:>9.1f}{np.median(took):>9.2f}{np.quantile(took, 0.95):>9.2f}")
    robot.close()


if __name__ == "__main__":
    main()

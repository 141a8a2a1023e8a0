"""How long one policy step takes on real frames: `python -m tests.bench.policy --checkpoint runs/so101`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from embodied.safety import SafeRobot
from embodied.types import Observation
from envs.so101 import SO101, make
from policies.token import SHIPPED, TokenPolicy
from policies.token import make as make_policy

WARM_UP = 10
SEED = 1_000_000


def observe(robot: SafeRobot[SO101], policy: TokenPolicy, acts: int) -> list[Observation]:
    """Return what the policy sees as it acts, episode after episode."""
    seen: list[Observation] = []
    while len(seen) < acts:
        observation = robot.reset(SEED + len(seen), robot.spec.tasks[len(seen) % len(robot.spec.tasks)])
        policy.reset(observation.instruction, robot.spec)
        for _ in range(5):  # looks an episode, so that all the tasks come in
            seen.append(observation)
            step = robot.step(*policy.act(observation))
            observation = step.observation
            if step.done:
                break
    return seen[:acts]


def time_acts_ms(policy: TokenPolicy, seen: list[Observation]) -> list[float]:
    """Return the milliseconds that each act takes, rendering apart."""
    took = []
    for observation in seen:
        policy.reset(observation.instruction, policy.spec)
        start_s = time.perf_counter()
        policy.act(observation)
        took.append(1e3 * (time.perf_counter() - start_s))
    return took[WARM_UP:]


def main() -> None:
    """Print a line for each output mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--acts", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policy = make_policy(args.checkpoint)
    robot = make(size=policy.spec.cameras[0].height)
    seen = observe(robot, policy, args.acts + WARM_UP)
    robot.close()
    millions = sum(p.numel() for p in policy.checkpoint.model.parameters()) / 1e6
    print(f"{millions:.2f} M parameters, {args.acts} acts on frames of {robot.spec.name}, {args.threads} torch threads")
    print(f"{'mode':<8}{'p50 ms':>8}{'p95 ms':>8}{'max ms':>8}")
    for timed in (policy, make_policy(args.checkpoint, mode="text")):
        took = time_acts_ms(timed, seen)
        print(f"{timed.mode:<8}{np.median(took):>8.1f}{np.quantile(took, 0.95):>8.1f}{max(took):>8.1f}")


if __name__ == "__main__":
    main()

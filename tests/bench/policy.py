"""How long one policy step takes for any checkpoint: `python -m tests.bench.policy --checkpoint runs/so101`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from embodied.types import Observation
from policies.token import SHIPPED, TokenPolicy, make
from tests.bench.serving import observe

WARM_UP = 10


def time_acts_ms(policy: TokenPolicy, seen: list[Observation]) -> list[float]:
    """Return the milliseconds that each act takes, each of an episode's first step."""
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
    policy = make(args.checkpoint)
    seen = [observe(policy.spec, seed) for seed in range(args.acts + WARM_UP)]
    millions = sum(p.numel() for p in policy.checkpoint.model.parameters()) / 1e6
    print(f"{millions:.2f} M parameters, {args.acts} acts for {policy.spec.name}, {args.threads} torch threads")
    print(f"{'mode':<8}{'p50 ms':>8}{'p95 ms':>8}{'max ms':>8}")
    for timed in [policy, *([make(args.checkpoint, mode="text")] if policy.spec.skills else [])]:
        took = time_acts_ms(timed, seen)
        print(f"{timed.mode:<8}{np.median(took):>8.1f}{np.quantile(took, 0.95):>8.1f}{max(took):>8.1f}")


if __name__ == "__main__":
    main()

"""Prints what it costs that an answer does not depend on who else asks: passes of a fixed number of rows.

Numbers of rows take turns, over and over, so that a busy machine slows all of them. The first lines say
in how many numbers answers to the same observation differ when 1, 2 or 4 ask at once: without `rows` the sums are
rounded otherwise, and at 1000 bins a number some end in another bin.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from embodied.types import Observation, PoseAction
from policies.token import SHIPPED, TokenPolicy, make
from tests.bench.serving import observe

ROWS = (None, 1, 2, 4, 8)
ASKERS = (1, 2, 4, 8)


def sessions(policy: TokenPolicy, observations: Sequence[Observation]) -> list[TokenPolicy]:
    """Return a fork for each observation, begun."""
    forks = [policy.fork() for _ in observations]
    for fork, observation in zip(forks, observations, strict=True):
        fork.reset(observation.instruction, policy.spec)
    return forks


def answers(policy: TokenPolicy, observations: Sequence[Observation], askers: int) -> np.ndarray:
    """Return what every observation is answered (n, horizon * fields), so many asking at once."""
    found = []
    for start in range(0, len(observations), askers):
        some = observations[start : start + askers]
        for answer in TokenPolicy.act_together(sessions(policy, some), some):
            assert not isinstance(answer, Exception)
            found.append(np.concatenate([a.values for a in answer if isinstance(a, PoseAction)]))
    return np.stack(found)


def main() -> None:
    """Print how answers differ, then ms an answer for each number of rows and of those who ask, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--observations", type=int, default=64, help="of which the answers are compared")
    parser.add_argument("--rounds", type=int, default=20, help="of which the median is printed")
    parser.add_argument("--threads", type=int, default=1, help="of a forward pass")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policies = {rows: make(args.checkpoint, rows=rows) for rows in ROWS}
    shown = [observe(policies[None].spec, seed) for seed in range(args.observations)]
    for rows, policy in policies.items():
        one, two, four = (answers(policy, shown, askers) for askers in (1, 2, 4))
        print(f"rows {rows!s:>4}: of {one.size} numbers {(one != two).sum()} differ for 2, {(one != four).sum()} for 4")
    took: dict[tuple[int | None, int], list[float]] = {(rows, n): [] for rows in ROWS for n in ASKERS}
    for _ in range(args.rounds):
        for rows, n in took:
            forks = sessions(policies[rows], shown[:n])
            began_s = time.perf_counter()
            TokenPolicy.act_together(forks, shown[:n])
            took[rows, n].append(1e3 * (time.perf_counter() - began_s) / n)
    print(f"\nms an answer, and in brackets as a multiple of what it takes without rows; {args.threads} threads")
    print(f"{'rows':>6}" + "".join(f"{f'{n} ask':>16}" for n in ASKERS))
    for rows in ROWS:
        cells = [(np.median(took[rows, n]), np.median(np.divide(took[rows, n], took[None, n]))) for n in ASKERS]
        print(f"{rows!s:>6}" + "".join(f"{f'{ms:.1f} ({ratio:.2f})':>16}" for ms, ratio in cells))


if __name__ == "__main__":
    main()

"""Prints what a policy server does for 1, 2, 4 and 8 sessions at once: chunks a second, and how long each waits.

The server and every client are processes of their own, on one host, as in use. The numbers of sessions take turns, over
and over, so that a busy machine slows all of them. What is not an option here goes to `embodied serve`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from embodied.bridge.policy_client import RemotePolicy
from embodied.types import Observation, RobotSpec

ROOT = Path(__file__).parents[2]
SESSIONS = (1, 2, 4, 8)
ROUNDS = 3
# Of words that every shipped checkpoint knows.
INSTRUCTIONS = ("pick up the red block and place it on the green one", "push the block over the table", "reach the top")


def observe(spec: RobotSpec, seed: int) -> Observation:
    """Return random pixels and a state within range: what a pass costs depends on neither."""
    random = np.random.default_rng(seed)
    return Observation(
        time_ns=0,
        frames={c.name: random.integers(0, 256, (c.height, c.width, 3), np.uint8) for c in spec.cameras},
        state=np.array([random.uniform(f.low, f.high) for f in spec.state], np.float32),
        instruction=INSTRUCTIONS[seed % len(INSTRUCTIONS)],
    )


def act_when_told(address: str, index: int, pipe: Connection) -> None:
    """Hold a session: for every number of seconds received, act for so long and send what each act took."""
    with RemotePolicy(address) as policy:
        spec = policy.description.spec
        assert spec is not None, "the policy says of no robot that it was trained for"
        observation = observe(spec, index)
        policy.reset(observation.instruction, spec)
        pipe.send("ready")
        for seconds in iter(pipe.recv, None):
            took_ms, stages_ns, until_s = [], [], time.perf_counter() + seconds
            while (started_s := time.perf_counter()) < until_s:
                policy.act(observation)
                took_ms.append(1e3 * (time.perf_counter() - started_s))
                stages_ns.append([policy.timing_ns[stage] for stage in ("queue", "work", "wire")])
            pipe.send((took_ms, stages_ns))


@contextmanager
def served(policy: str, options: list[str]) -> Iterator[str]:
    """Run `embodied serve` and yield its address."""
    command = [sys.executable, "-m", "embodied", "serve", policy, "--address", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def measure(pipes: list[Connection], seconds: float) -> tuple[list[float], list[list[int]]]:
    """Let some sessions act at once; return what each act took, and its stages."""
    for pipe in pipes:
        pipe.send(seconds)
    took, stages = zip(*(pipe.recv() for pipe in pipes), strict=True)
    return [*chain(*took)], [*chain(*stages)]


def main() -> None:
    """Print a line for each number of sessions, and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="policies.token")
    parser.add_argument("--seconds", type=float, default=3.0, help="that each number of sessions acts, each round")
    args, options = parser.parse_known_args()
    context = multiprocessing.get_context("spawn")
    found: dict[int, list[tuple[list[float], list[list[int]]]]] = {count: [] for count in SESSIONS}
    with served(args.policy, options) as address, ExitStack() as stack:
        pipes = []
        for index in range(max(SESSIONS)):
            ours, theirs = context.Pipe()
            process = context.Process(target=act_when_told, args=(address, index, theirs))
            process.start()
            stack.callback(process.join)
            pipes.append(ours)
        for pipe in pipes:
            pipe.recv()
        measure(pipes, 1.0)  # warm up
        for _ in range(ROUNDS):
            for count in SESSIONS:
                found[count].append(measure(pipes[:count], args.seconds))
        for pipe in pipes:
            pipe.send(None)
    print(f"{' '.join([args.policy, *options])}, {os.cpu_count()} cores, {ROUNDS} rounds of {args.seconds:g} s each")
    print_table(found, args.seconds)


def print_table(found: dict[int, list[tuple[list[float], list[list[int]]]]], seconds: float) -> None:
    """Print the median round's throughput, and the quantiles of all rounds' latencies."""
    print(f"{'':30}the whole, ms{'':14}its stages, median ms")
    print(f"sessions{'chunks/s':>10}{'ratio':>7}{'p50':>8}{'p95':>8}{'p99':>8}{'queue':>10}{'work':>8}{'wire':>8}")
    rates = {count: np.array([len(took) / seconds for took, _ in rounds]) for count, rounds in found.items()}
    for count, rounds in found.items():
        took = np.concatenate([took for took, _ in rounds])
        stages = np.median(np.concatenate([stages for _, stages in rounds]), axis=0) / 1e6
        ratio = np.median(rates[count] / rates[SESSIONS[0]])
        p50, p95, p99 = np.quantile(took, [0.5, 0.95, 0.99])
        print(
            f"{count:8}{np.median(rates[count]):10.1f}{ratio:7.2f}{p50:8.1f}{p95:8.1f}{p99:8.1f}"
            f"{stages[0]:10.1f}{stages[1]:8.1f}{stages[2]:8.1f}"
        )


if __name__ == "__main__":
    main()

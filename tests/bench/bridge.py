"""Prints what the wire costs: an observation up and a chunk down beside the peers; a robot's step beside a local one.

All rows of a table are measured in one run and in turn. Peers whose packages are not installed are named.
Usage: python -m tests.bench.bridge [--rounds N] [--calls N]
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
from numpy.typing import NDArray

from tests.bench.wires import robot_step
from tests.bench.wires.load import Load
from tests.bench.wires.turns import Wire, take_turns

LOADS = (Load(224, 224), Load(480, 640))
WIRES = "tests.bench.wires."
OURS = "ours: shared memory, unix"


def wires(folder: str) -> list[Wire]:
    """Return the rows; unix sockets lie in folder."""
    return [
        Wire("raw unix socket, the floor", WIRES + "raw_socket", f"unix:{folder}/raw"),
        Wire("bare gRPC stream, unix", WIRES + "bare_grpc", f"unix:{folder}/bare"),
        Wire("bare gRPC stream, TCP", WIRES + "bare_grpc"),
        Wire("bare, set up as ours, unix", WIRES + "tuned_grpc", f"unix:{folder}/tuned"),
        Wire("bare, set up as ours, TCP", WIRES + "tuned_grpc"),
        Wire(OURS, WIRES + "ours", f"unix:{folder}/shared", {"frames": "shared"}),
        Wire("ours: shared memory, TCP", WIRES + "ours", options={"frames": "shared"}),
        Wire("ours: raw, unix", WIRES + "ours", f"unix:{folder}/ours", {"frames": "raw"}),
        Wire("ours: raw, TCP", WIRES + "ours", options={"frames": "raw"}),
        Wire("ours: JPEG 90, TCP", WIRES + "ours", options={"frames": "jpeg:90"}),
        Wire("openpi: websocket, msgpack", WIRES + "openpi"),
        Wire("dm_env_rpc: a step", WIRES + "dm_env_rpc"),
        Wire("lerobot: gRPC, pickle", WIRES + "lerobot"),
    ]


def main(rounds: int, calls: int) -> None:
    """Print both tables."""
    for load in LOADS:
        with tempfile.TemporaryDirectory() as folder:
            rows = wires(folder)
            missing = {row.name: found for row in rows if (found := row.missing())}
            print_wires(load, take_turns([row for row in rows if row.name not in missing], load, rounds, calls))
        for name, packages in missing.items():
            print(f"{name:28} not measured: needs {', '.join(packages)}")
        print()
    robot_step.main(rounds * calls)


def print_wires(load: Load, times_ms: dict[str, NDArray[np.float64]]) -> None:
    """Print each wire's percentiles, its median as that of its turns' medians, and its ratio to ours."""
    count = next(iter(times_ms.values())).size
    print(
        f"observation up (2 x {load.height} x {load.width}, state; {load.kilobytes:.0f} kB), 16 x 7 chunk down, "
        f"{count} round trips, ms"
    )
    print(f"{'':28}{'p50':>9}{'p95':>9}{'p99':>9}{'to ours':>10}")
    ours = np.median(np.median(times_ms[OURS], axis=1))
    for name, times in times_ms.items():
        median = np.median(np.median(times, axis=1))
        p95, p99 = np.quantile(times, [0.95, 0.99])
        print(f"{name:28}{median:9.3f}{p95:9.3f}{p99:9.3f}{median / ours:10.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20, help="turns of every wire")
    parser.add_argument("--calls", type=int, default=25, help="round trips in a turn")
    arguments = parser.parse_args()
    main(arguments.rounds, arguments.calls)

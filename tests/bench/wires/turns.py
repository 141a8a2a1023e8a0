"""Times several wires in one run, a few calls of each in turn, so that whatever else the machine does hits all alike.

Each wire has a server and a client in processes of their own: what one sets up in gRPC does not reach another.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.wires.load import Load

WARM_UP = 50
START_TIMEOUT_S = 60.0

PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Wire:
    """A row of the table: a module of this folder, where it listens, and what else its client is told."""

    name: str
    module: str
    address: str = "127.0.0.1:0"
    options: dict[str, Any] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Return the packages that this wire needs and that are not installed."""
        needs = importlib.import_module(self.module).NEEDS
        return [package for package in needs if importlib.util.find_spec(package) is None]


@contextmanager
def started(wire: Wire, load: Load) -> Iterator[Connection]:
    """Start the wire's server and client; yield the pipe where it takes a count and gives as many times."""
    (ours, theirs), processes = PROCESSES.Pipe(), []
    try:
        processes.append(_start(_serve, wire, load, theirs))
        address = _receive(ours, processes[0], wire)
        processes.append(_start(_ask, wire, load, address, theirs))
        _receive(ours, processes[1], wire)
        yield ours
    finally:
        for process in processes:
            process.kill()
            process.join()


def take_turns(wires: Sequence[Wire], load: Load, rounds: int, calls: int) -> dict[str, NDArray[np.float64]]:
    """Return each wire's times in ms, (rounds, calls)."""
    with ExitStack() as stack:
        pipes = {wire.name: stack.enter_context(started(wire, load)) for wire in wires}
        blocks: dict[str, list[list[float]]] = {name: [] for name in pipes}
        for _ in range(rounds):
            for name, pipe in pipes.items():
                pipe.send(calls)
                blocks[name].append(pipe.recv())
    return {name: np.array(times) for name, times in blocks.items()}


def _start(target: Any, *args: Any) -> Any:
    process = PROCESSES.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def _serve(wire: Wire, load: Load, ready: Connection) -> None:
    importlib.import_module(wire.module).serve(load, wire.address, ready.send)


def _ask(wire: Wire, load: Load, address: str, turns: Connection) -> None:
    ask = importlib.import_module(wire.module).connect(load, address, **wire.options)
    for _ in range(WARM_UP):
        ask()
    turns.send("ready")
    while True:
        times_ms = []
        for _ in range(turns.recv()):
            begun_s = time.perf_counter()
            ask()
            times_ms.append((time.perf_counter() - begun_s) * 1e3)
        turns.send(times_ms)


def _receive(pipe: Connection, process: Any, wire: Wire) -> Any:
    if pipe not in wait([pipe, process.sentinel], START_TIMEOUT_S):
        raise SystemExit(f"{wire.name!r} did not start")
    return pipe.recv()

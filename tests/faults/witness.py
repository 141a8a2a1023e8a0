"""Witnesses of the machine: on each core a program that goes before all others and does nothing but watch the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from types import TracebackType

STOOD_S = 0.1
WAKES_S = 5.0  # a core that stands still says so when it goes on
LOOKING = f"""
import gc, os, sys, time
gc.disable()
os.sched_setaffinity(0, [int(sys.argv[1])])
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(30))
last = time.monotonic()
while True:
    time.sleep(0.005)
    now = time.monotonic()
    if now - last > {STOOD_S}:
        print(last, now, flush=True)
    last = now
"""


class Witnesses:
    """Knows when a core of this machine stood still for an emulator: its host was busy, or a program before all others.

    Where no program may go before others there are none, and nothing is ever laid to the machine.
    """

    def __init__(self) -> None:
        self._stood: list[tuple[float, float]] = []  # monotonic seconds, from when until when
        self._told = threading.Condition()

    def __enter__(self) -> Witnesses:
        self._looking = [
            subprocess.Popen(
                [sys.executable, "-c", LOOKING, str(core)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for core in sorted(os.sched_getaffinity(0))
        ]
        for witness in self._looking:
            threading.Thread(target=self._listen, args=(witness,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for witness in self._looking:
            witness.kill()
            witness.wait()

    def stood_s(self, since_s: float) -> float:
        """Return the longest that a core stood still from since_s on until now, 0 where none did; wait for its word."""
        with self._told:
            now_s = time.monotonic()
            self._told.wait_for(lambda: self._longest(since_s, now_s) > 0, WAKES_S)
            return self._longest(since_s, now_s)

    def sum_s(self, since_s: float) -> float:
        """Return for how long cores stood still from since_s on, each for STOOD_S at least; those that go on say so."""
        with self._told:
            return sum(end_s - begin_s for begin_s, end_s in self._stood if end_s > since_s)

    def _longest(self, since_s: float, until_s: float) -> float:
        spans = [min(end_s, until_s) - max(begin_s, since_s) for begin_s, end_s in self._stood]
        return max((span_s for span_s in spans if span_s > STOOD_S), default=0.0)

    def _listen(self, witness: subprocess.Popen[str]) -> None:
        assert witness.stdout is not None
        for line in witness.stdout:
            begin_s, end_s = map(float, line.split())
            with self._told:
                self._stood.append((begin_s, end_s))
                self._told.notify_all()

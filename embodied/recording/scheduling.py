"""Keeps an encoder from going before all other work of the machine: SVT-AV1 does, where it runs as root."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

TASKS = Path("/proc/self/task")


@contextlib.contextmanager
def ordinary_scheduling() -> Iterator[None]:
    """Give this thread its own scheduling back afterwards, and that to all threads that began within.

    libsvtav1 makes its threads, and whoever opens it, SCHED_FIFO of priority 99, and a process inherits that.
    """
    if sys.platform != "linux":
        yield
        return
    policy, param, before = os.sched_getscheduler(0), os.sched_getparam(0), _threads()
    try:
        yield
    finally:
        for thread in {0, *(_threads() - before)}:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setscheduler(thread, policy, param)


def _threads() -> set[int]:
    return {int(task.name) for task in TASKS.iterdir()}

"""An emulated arm on a busy machine: its servos answer whatever else runs, and whatever else the emulator is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from embodied.hardware.bus import Bus, BusSilentError, Counts
from embodied.hardware.feetech import FEETECH
from embodied.hardware.making import prefer_this_thread
from embodied.hardware.opening import read_patiently
from tests.servo_emulator import servo
from tests.servo_emulator.process import Emulator

IDS = range(1, 7)
GOALS = 600  # as tests/faults asks for at once
TICK_S, TICKS = 0.02, 200
FEW = 8  # readings in a row: with a listing that was put off by other programs it was 20 to 60
HOG = "while True: pass"
ASKING = f"""
import json, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect(sys.argv[1])
lines = asked.makefile("rw")
while True:
    print(json.dumps({{"goals": {GOALS}}}), file=lines, flush=True)
    print(len(json.loads(lines.readline())["goals"]), flush=True)
"""


@pytest.fixture
def emulated() -> Iterator[Emulator]:
    with Emulator(seed=3, no_cameras=True) as emulated:
        if not emulated.truth()["real_time"]:
            pytest.skip("nothing here may go before the machine's other work")
        yield emulated


@pytest.fixture
def busy() -> Iterator[None]:
    """Have two programs a core compute on and on."""
    hogs = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for hog in hogs:
        hog.kill()
        hog.wait()


def longest_silence(bus: Bus, home: Counts) -> int:
    """Drive the bus as the loop does; return how many readings in a row did not come about."""
    silent, longest, due_s = 0, 0, time.monotonic()
    for tick in range(TICKS):
        due_s += TICK_S
        time.sleep(max(0.0, due_s - time.monotonic()))
        try:
            bus.exchange(home + tick % 3)
            silent = 0
        except BusSilentError:
            silent += 1
            longest = max(longest, silent)
    return longest


def test_whom_the_bus_may_have_to_wait_for_goes_first_as_it_does(emulated: Emulator) -> None:
    threads = [int(name) for name in os.listdir(f"/proc/{emulated.pid}/task")]
    priorities = sorted(os.sched_getparam(thread).sched_priority for thread in threads)
    assert priorities[-4:] == [10, 20, 20, 20]  # physics; bus, control, and the connection that was asked over


def test_servos_answer_while_the_emulator_lists_goals_and_the_machine_computes(busy: None, emulated: Emulator) -> None:
    bus = Bus(FEETECH, emulated.port, IDS)
    home = read_patiently(bus).position
    for _ in range(GOALS // len(IDS)):
        bus.write_goals(home)
    asking = subprocess.Popen([sys.executable, "-c", ASKING, emulated.control], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None and asking.stdout.readline() == f"{GOALS}\n"
    with ThreadPoolExecutor(1, initializer=prefer_this_thread) as loop:
        longest = loop.submit(longest_silence, bus, home).result()
    asking.kill()
    asking.wait()
    asking.stdout.close()
    bus.close()
    assert longest <= FEW


def test_goals_are_listed_while_more_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus thread and the control thread share the journal: listing it is no error while it grows and is cut."""
    monkeypatch.setattr(servo, "JOURNAL_LENGTH", 10_000)
    journal, done = servo.Journal(), threading.Event()

    def write() -> None:
        for i in count():
            if done.is_set():
                return
            journal.add(servo.GoalWrite(i, "elbow", 3, i, i, outside=False), torque=True)

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        try:
            while journal.written < 50_000:
                times = [goal.time_ns for goal in journal.goals[-5000:]]
                assert times == [*range(times[-1] + 1 if times else 0)][-5000:]
        finally:
            done.set()
        writing.result()
    assert 10_000 <= len(journal.goals) < 20_000
    assert journal.goals[-1].time_ns == journal.written - 1

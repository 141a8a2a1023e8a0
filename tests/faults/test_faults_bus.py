"""A bus gone wrong, and a host that is killed: judged by what reached the emulated servos, and how far they went."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.hardware.bus import Bus, BusLostError, BusSilentError
from embodied.hardware.calibration import counts_of
from embodied.hardware.feetech import FEETECH
from embodied.hardware.link import BusStatistics
from embodied.robots import koch, so101
from embodied.types import PoseAction
from tests.emulated_arm import RAD, VENDORS, opened, until
from tests.faults.processes import Process, process
from tests.faults.trials import Table
from tests.faults.wire import alive, step
from tests.faults.witness import Witnesses
from tests.raw_operator import RawOperator
from tests.servo_emulator.process import Emulator

ARMS = {"so101": so101.ARM, "koch": koch.ARM}
CYCLES = [pytest.param(400, id="400 cycles"), pytest.param(100_000, id="100000 cycles", marks=pytest.mark.slow)]
HURRIED = [pytest.param(500, id="500 cycles"), pytest.param(100_000, id="100000 cycles", marks=pytest.mark.slow)]
HURRIED_BATCH = 500
KILLS = [pytest.param(1, id="1 trial"), pytest.param(25, id="25 trials", marks=pytest.mark.slow)]
SHARE = 0.01
BATCH_STEPS = 20  # two seconds: what is asked of the emulator at once, it and this process must put into JSON at once
LOOK_BACK_S = 1.0
TAKEN_WITHIN_NS = 1_000_000_000
GRIPPER = 5  # no trial moves it, but by commands that must not be carried out
STILL_RAD = 0.02
SWEPT_RAD = {"so101": 0.5, "koch": 0.25}  # the emulator hangs the SO-101's heavier links on the Koch's small servos


def sweep(home: np.ndarray, at_s: float, *, by_rad: float = 0.5) -> PoseAction:
    """Return a pose on the way to and fro; the gripper stays."""
    moved = by_rad * np.sin(2.0 * at_s + np.arange(len(home)))
    moved[GRIPPER] = 0.0
    return PoseAction((home + moved).astype(np.float32))


def is_subsequence(found: list[int], sent: list[int]) -> bool:
    rest = iter(sent)
    return all(count in rest for count in found)


@pytest.mark.parametrize("cycles", CYCLES)
def test_with_bad_packets_the_loop_keeps_its_rate_and_no_wrong_command_reaches_a_servo(
    cycles: int, tmp_path: Path, table: Table
) -> None:
    """Compare every goal that a servo took with those that the driver sent it: they are those, in that order.

    A bus that is lost while a core of the machine stands still, and the emulator or the kernel's serial line with it,
    is opened anew, as an operator would, and counted.
    """
    with (
        Witnesses() as witnesses,
        Emulator(seed=3, no_cameras=True) as emulated,
        opened("so101", emulated, tmp_path, episode_s=86_400.0) as robot,
    ):
        home = np.array(so101.ARM.home_rad)
        sent, heard, stood_s = deque[tuple[int, list[int]]](), list[BusStatistics](), list[float]()

        def begin() -> int:
            robot.reset(0, "reach")
            bus = robot.body.bus
            write = bus.write_goals

            def write_and_note(counts: Any) -> None:
                sent.append((time.monotonic_ns(), counts.tolist()))
                write(counts)

            bus.write_goals = write_and_note
            heard.append(bus.statistics)
            for kind in ("corrupted", "dropped"):
                emulated.ask({"fault": {"kind": kind, "share": SHARE}})
            return time.monotonic_ns()

        taken, wrong = 0, 0
        since_ns, began = begin(), robot.regularity
        begun_s, began_cycles = time.monotonic(), heard[0].cycles
        while sum(each.cycles for each in heard) - began_cycles < cycles:
            try:
                for _ in range(min(BATCH_STEPS, cycles // 10)):
                    done = robot.step(sweep(home, time.monotonic() - begun_s), frames=False).done
                    assert not done
            except BusLostError:
                stood_s.append(witnesses.stood_s(time.monotonic() - LOOK_BACK_S))
                if not stood_s[-1]:
                    raise
                emulated.ask({"clear": True})
                since_ns = begin()
                continue
            asked_ns = time.monotonic_ns()
            goals = [g for g in emulated.ask({"goals": 6 * len(sent) + 60})["goals"] if g["time_ns"] > since_ns]
            # A goal was sent before it was taken, and on a busy machine some time before.
            while sent and sent[0][0] < since_ns - TAKEN_WITHIN_NS:
                sent.popleft()
            rows = [row for _, row in list(sent)]
            for index, servo in enumerate(so101.ARM.ids):
                counts = [goal["count"] for goal in goals if goal["id"] == servo]
                wrong += not is_subsequence(counts, [row[index] for row in rows])
                taken += len(counts)
            since_ns = min(asked_ns, max((g["time_ns"] for g in goals), default=asked_ns))
        took_s, truth = time.monotonic() - begun_s, emulated.truth()
        regular = robot.regularity
        done_cycles = sum(each.cycles for each in heard) - began_cycles
    struck = sum(truth["counters"].get(f"fault_{kind}", 0) for kind in ("corrupted", "dropped"))
    assert struck > cycles * SHARE and taken > 0.9 * 6 * done_cycles
    assert heard[0].retries > 0 and truth["goals_outside"] == 0
    ticks, missed = regular.ticks - began.ticks, regular.missed - began.missed
    assert ticks + missed >= 0.97 * 50 * took_s
    fault = "1 % of packets corrupted, 1 % dropped"
    table.add(fault, "cycles of the loop", [done_cycles])
    table.add(fault, "packets struck", [struck])
    table.add(fault, "ticks missed", [missed], allowed=0.01 * ticks)
    table.add(fault, "p99 of the period's error, ms", [1e3 * regular.jitter_p99_s])
    table.add(fault, "readings given up in their tick", [sum(each.lost for each in heard)])
    table.add(fault, "buses lost while a core of the machine stood still", [len(stood_s)])
    table.add(fault, "for how long it stood, s", stood_s or [0.0])
    table.add(fault, "servos that took a goal not sent to them", [wrong], allowed=0)


@pytest.mark.parametrize("cycles", HURRIED)
def test_with_bad_packets_a_bus_without_pause_gives_servos_no_goal_but_theirs(cycles: int, table: Table) -> None:
    """The loop's cycle again and again, in minutes where the loop takes the better part of an hour."""
    worst, taken, wrong = 0, 0, 0
    with Emulator(seed=3, no_cameras=True) as emulated:
        bus = Bus(FEETECH, emulated.port, so101.ARM.ids)
        home = counts_of(so101.ARM, np.array(so101.ARM.home_rad))
        bus.write_goals(home)
        bus.set_torque(True)
        for kind in ("corrupted", "dropped"):
            emulated.ask({"fault": {"kind": kind, "share": SHARE}})
        since_ns, silent = time.monotonic_ns(), 0
        for first in range(0, cycles, HURRIED_BATCH):
            sent = [home]
            for cycle in range(first, first + HURRIED_BATCH):
                sent.append(home + np.round(40 * np.sin(cycle / 100 + np.arange(6))).astype(np.int64))
                try:
                    bus.exchange(sent[-1])
                    silent = 0
                except BusSilentError:  # that lost its tick; the next is another
                    silent += 1
                    worst = max(worst, silent)
            goals = [g for g in emulated.ask({"goals": 6 * HURRIED_BATCH + 60})["goals"] if g["time_ns"] > since_ns]
            since_ns = max((g["time_ns"] for g in goals), default=since_ns)
            for index, servo in enumerate(so101.ARM.ids):
                counts = [g["count"] for g in goals if g["id"] == servo]
                wrong += not is_subsequence(counts, [int(row[index]) for row in sent])
                taken += len(counts)
        statistics, truth = bus.statistics, emulated.truth()
        bus.close()
    assert taken > 0.9 * 6 * cycles and statistics.retries > 0 and truth["goals_outside"] == 0
    fault = "1 % corrupted, 1 % dropped, without pause"
    table.add(fault, "cycles of the bus", [cycles])
    table.add(fault, "readings given up", [statistics.lost])
    table.add(fault, "most readings given up in a row", [worst])
    table.add(fault, "servos that took a goal not sent to them", [wrong], allowed=0)


@contextmanager
def hosted(name: str, emulated: Emulator, folder: Path) -> Iterator[tuple[Process, str]]:
    """Host the arm in a process of its own; yield it and its address."""
    options = {"port": emulated.port, "calibration": str(emulated.calibration(folder / "c.json")), "stage": "none"}
    given: dict[str, Any] = {**options, "episode_s": 3600.0, **({"cameras": {}} if name == "so101" else {})}
    flags = chain.from_iterable(("--option", f"{key}={json.dumps(value)}") for key, value in given.items())
    command = ("-m", "embodied", "host", f"embodied.robots.{name}", "--address", "127.0.0.1:0")
    with process(*command, *flags) as host:
        yield host, host.line().split(" on ")[-1]


def test_commands_not_finite_out_of_limits_or_late_never_reach_the_bus(tmp_path: Path, table: Table) -> None:
    home, forbidden = np.array(so101.ARM.home_rad), np.array(so101.ARM.home_rad)
    forbidden[GRIPPER] = 1.7
    bad = []
    with (
        Emulator(seed=3, no_cameras=True) as emulated,
        hosted("so101", emulated, tmp_path) as (_, address),
        RawOperator(address, timeout_s=600) as operator,
        alive(operator),
    ):
        seen = operator.begin(task="reach")
        begun_ns = time.monotonic_ns()
        emulated.ask({"truth": "reset"})
        for joint in range(6):
            for number in (np.nan, np.inf, -np.inf):
                values = forbidden.copy()
                values[joint] = number
                reply = operator.ask(step=step([values]))
                bad.append("non_finite" in {change.kind for change in reply.step.interventions})
        for joint in range(GRIPPER):
            for far in (1e30, -3.4e38, 9.0):
                values = home.copy()
                values[joint] = far
                reply = operator.ask(step=step([values] * 2))
                bad.append("position" in {change.kind for change in reply.step.interventions})
                operator.ask(step=step([home] * 3))
        for _ in range(5):
            dated = {"answers_ns": seen.server_ns, "within_ns": round(0.05e9)}
            reply = operator.ask(step=step([forbidden] * 2), **dated)
            bad.append([change.kind for change in reply.step.interventions] == ["late"])
        goals = [goal for goal in emulated.ask({"goals": 100_000})["goals"] if goal["time_ns"] > begun_ns]
        truth = emulated.truth()
    assert all(bad)
    low, high = (np.rint(2048 + ends / RAD) for ends in (so101.ARM.low_rad, so101.ARM.high_rad))
    gripper = [goal["count"] for goal in goals if goal["id"] == so101.ARM.ids[GRIPPER]]
    wrong = [goal for goal in goals if not low[goal["id"] - 1] <= goal["count"] <= high[goal["id"] - 1]]
    moved = [count for count in gripper if abs((count - 2048) * RAD - home[GRIPPER]) > 0.05]
    table.add("bad commands over gRPC", "commands sent", [len(bad)])
    table.add("bad commands over gRPC", "goals that reached servos", [len(goals)])
    table.add("bad commands over gRPC", "bad goals among them", [len(wrong) + len(moved)], allowed=0)
    assert truth["goals_outside"] == 0
    ahead_rad = np.array(list(truth["most_ahead_counts"].values())) * RAD
    assert (ahead_rad <= np.array(so101.ARM.limits.velocity) * so101.ARM.watchdog_s).all()


@pytest.mark.parametrize("trials", KILLS)
@pytest.mark.parametrize("name", VENDORS)
def test_a_host_that_is_killed_leaves_an_arm_that_stops_within_its_watchdog_and_holds(
    name: str, trials: int, tmp_path: Path, table: Table
) -> None:
    arm, moments, travelled, shares = ARMS[name], random.Random(0), list[float](), list[float]()
    allowed = np.array(arm.limits.velocity) * arm.watchdog_s
    with Emulator(vendor=VENDORS[name], seed=3, no_cameras=True) as emulated:
        for _ in range(trials):
            with (
                hosted(name, emulated, tmp_path) as (host, address),
                RawOperator(address, timeout_s=60) as operator,
                alive(operator),
            ):
                operator.begin(task=arm.tasks[0])
                begun_s, stop_s = time.monotonic(), moments.uniform(0.5, 1.5)
                while time.monotonic() - begun_s < stop_s:
                    at_s = 1.5 * (time.monotonic() - begun_s)
                    operator.ask(step=step([sweep(np.array(arm.home_rad), at_s, by_rad=SWEPT_RAD[name])]))
                host.send(signal.SIGKILL)
                killed_ns = time.monotonic_ns()
                host.popen.wait()
            until(lambda: max(map(abs, emulated.truth()["velocities"].values())) < STILL_RAD)
            time.sleep(0.3)
            truth = emulated.truth()
            trace = emulated.ask({"trace": (time.monotonic_ns() - killed_ns) * 1e-9})["trace"]
            went = np.abs(np.array([joints for _, joints in trace]) - trace[0][1]).max(axis=0)
            travelled.append(float(went.max()))
            shares.append(float((went / allowed).max()))
            assert all(truth["torque"].values()), "an arm that drops"
    table.add(f"{name}: host SIGKILL mid-motion", "travel after it, rad", travelled)
    table.add(f"{name}: host SIGKILL mid-motion", "share of speed limit x watchdog_s", shares, allowed=1.0)
    assert max(travelled) > 0.0

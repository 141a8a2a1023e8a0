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
GRIPPER = 5  # no trial moves it, but by commands that must not be carried out
STILL_RAD = 0.02
SWEPT_RAD = {"so101": 0.5, "koch": 0.25}  # the emulator hangs the SO-101's heavier links on the Koch's small servos


def sweep(home: np.ndarray, at_s: float, *, by_rad: float = 0.5) -> PoseAction:
    """Return a pose on the way to and fro; the gripper stays."""
    moved = by_rad * np.sin(2.0 * at_s + np.arange(len(home)))
    moved[GRIPPER] = 0.0
    return PoseAction((home + moved).astype(np.float32))


class Goals:
    """Every goal that this process sends to a servo, by whatever way, and which of them the servo took, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self._sent: dict[int, deque[int]] = {servo: deque() for servo in so101.ARM.ids}
        self._last: dict[int, tuple[int, int]] = {}  # when each servo took its last goal, ns, and which
        write_goals, set_register = Bus.write_goals, Bus.set

        def write_and_note(bus: Bus, counts: Any) -> None:
            for servo, count in zip(bus.ids, counts.tolist(), strict=True):
                self._sent[servo].append(count)
            write_goals(bus, counts)

        def set_and_note(bus: Bus, id: int, register: str, value: int, **options: Any) -> None:
            if register == "goal_position":
                self._sent[id].append(value)
            set_register(bus, id, register, value, **options)

        monkeypatch.setattr(Bus, "write_goals", write_and_note)
        monkeypatch.setattr(Bus, "set", set_and_note)

    def wrong(self, emulated: Emulator) -> list[str]:
        """Return the goals taken since the last call that were not sent to that servo, or not after those before."""
        waiting = sum(map(len, self._sent.values()))
        found = list[str]()
        for goal in emulated.ask({"goals": 2 * waiting + 600})["goals"]:
            servo, count = goal["id"], goal["count"]
            at_ns, last = self._last.get(servo, (0, -1))
            if goal["time_ns"] <= at_ns:
                continue
            self.taken += 1
            self._last[servo] = (goal["time_ns"], count)
            if count != last:
                found += [] if self._reach(servo, count) else [f"servo {servo} took {count} after {last}"]
        return found

    def _reach(self, servo: int, count: int) -> bool:
        """Forget what was sent to a servo up to that count; return whether it was sent, and forget nothing if not."""
        sent = self._sent[servo]
        if count not in sent:
            return False
        while sent.popleft() != count:
            pass
        return True


@pytest.mark.parametrize("cycles", CYCLES)
def test_with_bad_packets_the_loop_keeps_its_rate_and_no_wrong_command_reaches_a_servo(
    cycles: int, tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare every goal that a servo took with those that the driver sent it: they are those, in that order.

    A bus that is lost while a core of the machine stands still, and the emulator or the kernel's serial line with it,
    is opened anew, as an operator would, and counted. Ticks that can be missed while a core stands still are not held
    against the loop.
    """
    goals, wrong = Goals(monkeypatch), list[str]()
    with (
        Witnesses() as witnesses,
        Emulator(seed=3, no_cameras=True) as emulated,
        opened("so101", emulated, tmp_path, episode_s=86_400.0) as robot,
    ):
        home = np.array(so101.ARM.home_rad)
        heard, stood_s = list[BusStatistics](), list[float]()

        def begin() -> None:
            robot.reset(0, "reach")
            heard.append(robot.body.bus.statistics)
            for kind in ("corrupted", "dropped"):
                emulated.ask({"fault": {"kind": kind, "share": SHARE}})

        begin()
        wrong += goals.wrong(emulated)
        began, taken_before = robot.regularity, goals.taken
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
                begin()
            wrong += goals.wrong(emulated)
        took_s, truth = time.monotonic() - begun_s, emulated.truth()
        machine_s = witnesses.sum_s(begun_s)
        regular = robot.regularity
        done_cycles = sum(each.cycles for each in heard) - began_cycles
    taken = goals.taken - taken_before
    assert not wrong, wrong[:6]
    struck = sum(truth["counters"].get(f"fault_{kind}", 0) for kind in ("corrupted", "dropped"))
    assert struck > cycles * SHARE and taken > 0.9 * 6 * done_cycles
    assert heard[0].retries > 0 and truth["goals_outside"] == 0
    ticks, missed = regular.ticks - began.ticks, regular.missed - began.missed
    assert ticks + missed >= 0.97 * 50 * took_s
    fault = "1 % of packets corrupted, 1 % dropped"
    table.add(fault, "cycles of the loop", [done_cycles])
    table.add(fault, "packets struck", [struck])
    table.add(fault, "ticks missed", [missed], allowed=0.01 * ticks + 50 * machine_s)
    table.add(fault, "for how long cores of the machine stood still, s", [machine_s])
    table.add(fault, "p99 of the period's error, ms", [1e3 * regular.jitter_p99_s])
    table.add(fault, "readings given up in their tick", [sum(each.lost for each in heard)])
    table.add(fault, "buses lost while a core of the machine stood still", [len(stood_s)])
    table.add(fault, "for how long it stood, s", stood_s or [0.0])
    table.add(fault, "goals not sent to the servo that took them", [len(wrong)], allowed=0)


@pytest.mark.parametrize("cycles", HURRIED)
def test_with_bad_packets_a_bus_without_pause_gives_servos_no_goal_but_theirs(
    cycles: int, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's cycle again and again, in minutes where the loop takes the better part of an hour."""
    goals, wrong, worst, silent = Goals(monkeypatch), list[str](), 0, 0
    with Emulator(seed=3, no_cameras=True) as emulated:
        bus = Bus(FEETECH, emulated.port, so101.ARM.ids)
        home = counts_of(so101.ARM, np.array(so101.ARM.home_rad))
        bus.write_goals(home)
        bus.set_torque(True)
        for kind in ("corrupted", "dropped"):
            emulated.ask({"fault": {"kind": kind, "share": SHARE}})
        for first in range(0, cycles, HURRIED_BATCH):
            for cycle in range(first, first + HURRIED_BATCH):
                try:
                    bus.exchange(home + np.round(40 * np.sin(cycle / 100 + np.arange(6))).astype(np.int64))
                    silent = 0
                except BusSilentError:  # that lost its tick; the next is another
                    silent += 1
                    worst = max(worst, silent)
            wrong += goals.wrong(emulated)
        statistics, truth = bus.statistics, emulated.truth()
        bus.close()
    assert not wrong, wrong[:6]
    assert goals.taken > 0.9 * 6 * cycles and statistics.retries > 0 and truth["goals_outside"] == 0
    fault = "1 % corrupted, 1 % dropped, without pause"
    table.add(fault, "cycles of the bus", [cycles])
    table.add(fault, "readings given up", [statistics.lost])
    table.add(fault, "most readings given up in a row", [worst])
    table.add(fault, "goals not sent to the servo that took them", [len(wrong)], allowed=0)


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
    told: list[tuple[str, list[str]]] = []  # what an answer should say of a bad command, and what it says
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
                told.append(("non_finite", [change.kind for change in reply.step.interventions]))
        for joint in range(GRIPPER):
            for far in (1e30, -3.4e38, 9.0):
                values = home.copy()
                values[joint] = far
                reply = operator.ask(step=step([values] * 2))
                told.append(("position", [change.kind for change in reply.step.interventions]))
                operator.ask(step=step([home] * 3))
        for _ in range(5):
            dated = {"answers_ns": seen.server_ns, "within_ns": round(0.05e9)}
            reply = operator.ask(step=step([forbidden] * 2), **dated)
            told.append(("late", [change.kind for change in reply.step.interventions]))
        goals = [goal for goal in emulated.ask({"goals": 100_000})["goals"] if goal["time_ns"] > begun_ns]
        truth = emulated.truth()
    assert [(due, kinds) for due, kinds in told if due not in kinds] == []
    assert all(kinds == ["late"] for due, kinds in told if due == "late")
    low, high = (np.rint(2048 + ends / RAD) for ends in (so101.ARM.low_rad, so101.ARM.high_rad))
    gripper = [goal["count"] for goal in goals if goal["id"] == so101.ARM.ids[GRIPPER]]
    wrong = [goal for goal in goals if not low[goal["id"] - 1] <= goal["count"] <= high[goal["id"] - 1]]
    moved = [count for count in gripper if abs((count - 2048) * RAD - home[GRIPPER]) > 0.05]
    table.add("bad commands over gRPC", "commands sent", [len(told)])
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

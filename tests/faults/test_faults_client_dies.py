"""An operator that is killed or frozen in mid-motion: the robot brakes, holds, and is free for the next."""

from __future__ import annotations

import random
import signal
import time

import pytest

from embodied.bridge.robot_client import RemoteRobot
from tests.faults.evidence import wait_until
from tests.faults.processes import Host, driver
from tests.faults.trials import TRIALS, Table
from tests.faults.wire import status
from tests.live_robot import CONTROL_PERIOD_S, WATCHDOG_S


@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_the_robot_stops_within_the_watchdog_and_one_control_period(
    fault: signal.Signals, trials: int, live: Host, table: Table
) -> None:
    residual_ms, hiccup_ms, free_ms, moments = list[float](), list[float](), list[float](), random.Random(0)
    stalls = status(live.address).stalls
    for _ in range(trials):
        with driver(live.address) as operator:
            live.evidence.wait_for_motion()
            time.sleep(moments.uniform(0.0, 1.0))  # the fault comes at any moment of the motion
            operator.send(fault)
            died_s = time.monotonic()
            wait_until(lambda: not status(live.address).holder, why="the lease is never free")
            free_ms.append((time.monotonic() - died_s) * 1e3)
            residual_ms.append(max(0.0, live.evidence.wait_for_rest() - died_s) * 1e3)
            hiccup_ms.append(live.evidence.hiccup_s(died_s) * 1e3)
    assert status(live.address).stalls - stalls == (trials if fault == signal.SIGSTOP else 0)
    with RemoteRobot(live.address) as next_one:
        next_one.reset(0, "sweep")
    allowed_ms = (WATCHDOG_S + CONTROL_PERIOD_S) * 1e3
    table.add_motion(f"client {fault.name} mid-motion", residual_ms, hiccup_ms, allowed=allowed_ms)
    table.add(f"client {fault.name} mid-motion", "until the lease is free, ms", free_ms)

"""Networks that are slow, irregular or stalled: the robot moves as commanded, or brakes and holds; never late."""

from __future__ import annotations

import random
import time

import grpc
import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.types import PoseAction
from tests.faults.evidence import SETTLED_S
from tests.faults.processes import Host
from tests.faults.proxy import Proxy
from tests.faults.trials import TRIALS, Table
from tests.faults.wire import FORBIDDEN, alive, status, step
from tests.live_robot import CONTROL_PERIOD_S, SPEC, WATCHDOG_S, sweep
from tests.raw_operator import RawOperator


@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.parametrize(
    ("delay_ms", "jitter_ms", "max_age_s"),
    [
        (10, 0, WATCHDOG_S),  # the client's own default
        (50, 0, WATCHDOG_S),
        (50, 40, WATCHDOG_S),
        (200, 0, WATCHDOG_S),
        (200, 100, WATCHDOG_S),
        (200, 0, 0.3),
    ],
)
def test_a_delayed_operator_keeps_its_lease_and_what_comes_too_late_is_dropped(
    delay_ms: int, jitter_ms: int, max_age_s: float, trials: int, live: Host, table: Table
) -> None:
    before, added_ms, executed = status(live.address), list[float](), list[int]()
    too_late = 2 * (delay_ms - jitter_ms) / 1e3 > max_age_s  # each way
    forbidden = PoseAction(np.float32(FORBIDDEN[0]))
    with (
        Proxy(live.address, delay_s=delay_ms / 1e3, jitter_s=jitter_ms / 1e3) as proxy,
        RemoteRobot(proxy.address, max_age_s=max_age_s) as robot,
    ):
        robot.reset(0, "sweep")
        for trial in range(trials):
            actions = [forbidden] * 3 if too_late else sweep(SPEC.control_hz, 3 * trial, 3)
            asked_s = time.monotonic()
            came = robot.step(*actions, frames=False)
            took_s = time.monotonic() - asked_s
            there_s = (
                sum(came.timing_ns[stage] for stage in ("queue", "wait", "motion", "render") if came.executed) / 1e9
            )
            added_ms.append((took_s - there_s) * 1e3)
            executed.append(came.executed)
            assert came.executed + came.dropped == 3 and came.executed in (0, 3)
    after = status(live.address)
    assert after.stalls == before.stalls
    assert after.late_actions - before.late_actions == 3 * executed.count(0)
    if too_late:
        assert not any(executed)
    elif 2 * (delay_ms + jitter_ms) / 1e3 < max_age_s / 2:
        assert all(executed)
    words = (
        f"delay {delay_ms} ms"
        + (f" ± {jitter_ms} ms" if jitter_ms else "")
        + f" each way, deadline {max_age_s * 1e3:g} ms"
    )
    table.add(words, "added to a step, ms", added_ms)
    table.add(words, "steps carried out", [bool(count) for count in executed])


@pytest.mark.parametrize("trials", TRIALS)
def test_a_stalled_network_stops_the_robot_and_what_was_held_back_is_not_carried_out(
    trials: int, live: Host, table: Table
) -> None:
    residual_ms, hiccup_ms, moments = list[float](), list[float](), random.Random(0)
    for _ in range(trials):
        with Proxy(live.address) as proxy, RawOperator(proxy.address) as operator, alive(operator):
            operator.begin(task="sweep")
            operator.send(step=step(sweep(SPEC.control_hz, 0, 30)))
            live.evidence.wait_for_motion()
            time.sleep(moments.uniform(0.0, 0.5))
            proxy.stall()
            stalled_s = time.monotonic()
            residual_ms.append(max(0.0, live.evidence.wait_for_rest() - stalled_s) * 1e3)
            hiccup_ms.append(live.evidence.hiccup_s(stalled_s) * 1e3)
            operator.send(step=step(FORBIDDEN))
            proxy.resume()
            code, words = operator.ended()
            assert code == grpc.StatusCode.ABORTED and f"no sign of life from raw for {WATCHDOG_S:g} s" in words
            assert live.evidence.last_motion_s() < time.monotonic() - SETTLED_S
    allowed_ms = (WATCHDOG_S + CONTROL_PERIOD_S) * 1e3
    table.add_motion("stalled proxy", residual_ms, hiccup_ms, allowed=allowed_ms)

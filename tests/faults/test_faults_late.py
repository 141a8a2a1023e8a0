"""Policies that are slow, and replies that come after their deadline: dropped and counted, never carried out."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.types import PoseAction
from embodied.v1 import robot_pb2 as pb
from tests.faults.processes import Host
from tests.faults.trials import TRIALS, Table
from tests.faults.wire import FORBIDDEN, alive, status, step
from tests.live_robot import SPEC, sweep
from tests.raw_operator import RawOperator

DEADLINE_S = 0.06
THOUGHTS_S = (0.1, 0.25, 0.7, 1.0, 2.0)  # a policy's; the client's own deadline is the watchdog's 0.5 s


@pytest.mark.parametrize("trials", TRIALS)
def test_a_reply_after_its_deadline_is_dropped_and_one_before_it_carried_out(
    trials: int, live: Host, table: Table
) -> None:
    late, lateness, executed = status(live.address).late_actions, random.Random(0), list[int]()
    with RawOperator(live.address, timeout_s=600) as operator, alive(operator):
        seen = operator.open() and operator.ask(reset=pb.Reset(seed=0, task="sweep"))
        for trial in range(trials):
            dated = {"answers_ns": seen.server_ns, "within_ns": round(DEADLINE_S * 1e9)}
            seen = operator.ask(step=step(sweep(SPEC.control_hz, trial, 1)), **dated)
            assert seen.step.executed == 1
            dated["answers_ns"] = seen.server_ns
            time.sleep(DEADLINE_S + lateness.uniform(0.0, 0.1))
            seen = operator.ask(step=step([*FORBIDDEN, *FORBIDDEN]), **dated)
            executed.append(seen.step.executed)
            assert seen.step.dropped == 2 and [i.kind for i in seen.step.interventions] == ["late"]
    assert status(live.address).late_actions == late + 2 * trials
    table.add("reply after its deadline", "late actions carried out", executed, allowed=0)


@pytest.mark.parametrize("trials", TRIALS)
def test_a_policy_of_any_slowness_keeps_the_lease_and_its_late_chunks_are_dropped(
    trials: int, live: Host, table: Table
) -> None:
    thoughts, before, executed, rest_ms = random.Random(0), status(live.address), list[int](), list[float]()
    with RemoteRobot(live.address) as robot:
        robot.reset(0, "sweep")
        for trial in range(trials):
            thought_s = THOUGHTS_S[trial % len(THOUGHTS_S)] * thoughts.uniform(0.9, 1.0)
            robot.step(*sweep(SPEC.control_hz, 3 * trial, 3), frames=False)
            answered_s = time.monotonic()
            time.sleep(thought_s)
            in_time = thought_s < SPEC.watchdog_s
            if not in_time:
                rest_ms.append((live.evidence.last_motion_s() - answered_s) * 1e3)
            action = sweep(SPEC.control_hz, 3 * trial + 3, 1)[0] if in_time else PoseAction(np.float32(FORBIDDEN[0]))
            executed.append(robot.step(action, action, frames=False).executed)
            assert executed[-1] == (2 if in_time else 0)
    after = status(live.address)
    assert after.stalls == before.stalls
    assert after.late_actions - before.late_actions == 2 * executed.count(0)
    period_ms = 1e3 / SPEC.control_hz
    table.add("slow policy, 0.1 to 2 s", "from its last action to rest, ms", rest_ms, allowed=2 * period_ms)

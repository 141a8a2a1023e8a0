"""The emergency stop: in mid-motion, in mid-reset, twice; latched until it is released."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.errors import EmergencyStopError
from embodied.v1 import robot_pb2 as pb
from tests.faults.evidence import wait_until
from tests.faults.processes import Host, host
from tests.faults.trials import TRIALS, Table
from tests.faults.wire import FORBIDDEN, alive, status, step, unary
from tests.live_robot import ACCELERATION, SPEC, TICK_S, VELOCITY, sweep
from tests.raw_operator import RawOperator

BRAKING_MS = VELOCITY / ACCELERATION * 1e3
SLACK_MS = 100.0  # for machines that are busy


def press(address: str, name: str = "safety") -> tuple[pb.RobotStatus, float]:
    """Press the emergency stop; return the answer, and when it was asked for by the monotonic clock."""
    asked_s = time.monotonic()
    return unary(address, "EmergencyStop", pb.EmergencyStopRequest(client=name)), asked_s


def release(address: str) -> None:
    assert not unary(address, "ReleaseEmergencyStop", pb.ReleaseEmergencyStopRequest(client="safety")).stopped


@pytest.mark.parametrize("trials", TRIALS)
def test_in_mid_motion_it_brakes_at_once_and_nothing_moves_until_it_is_released(
    trials: int, live: Host, table: Table
) -> None:
    answered_ms, residual_ms, hiccup_ms, moments = list[float](), list[float](), list[float](), random.Random(0)
    with RawOperator(live.address, timeout_s=600) as operator, alive(operator):
        operator.open()
        for _ in range(trials):
            operator.ask(reset=pb.Reset(seed=0, task="sweep"))
            operator.send(step=step(sweep(SPEC.control_hz, 0, 30)))
            live.evidence.wait_for_motion()
            time.sleep(moments.uniform(0.0, 0.5))
            pressed, asked_s = press(live.address)
            answered_ms.append((time.monotonic() - asked_s) * 1e3)
            assert pressed.stopped and pressed.stopped_by == "safety"
            assert operator.reply().step.dropped > 0  # the chunk that was under way
            residual_ms.append(max(0.0, live.evidence.wait_for_rest() - asked_s) * 1e3)
            hiccup_ms.append(live.evidence.hiccup_s(asked_s) * 1e3)
            twice, _ = press(live.address, "another")
            assert twice.stopped and twice.stopped_by == "safety"
            for refused in (
                operator.ask(step=step(FORBIDDEN)),
                operator.ask(reset=pb.Reset(seed=0, task="sweep")),
            ):
                assert refused.error.code == 9 and "pressed by safety" in refused.error.message
            release(live.address)
    assert not status(live.address).stopped
    allowed_ms = BRAKING_MS + TICK_S * 1e3 + SLACK_MS
    table.add("e-stop during motion", "until it answers, ms", answered_ms)
    table.add_motion("e-stop during motion", residual_ms, hiccup_ms, allowed=allowed_ms)


def test_in_mid_reset_it_answers_without_waiting_and_the_episode_is_none(tmp_path: Path, table: Table) -> None:
    with host(tmp_path, "--realtime", reset_s=3.0) as live, RawOperator(live.address) as operator, alive(operator):
        operator.open()
        operator.send(reset=pb.Reset(seed=0, task="sweep"))
        wait_until(lambda: bool(status(live.address).holder))
        pressed, asked_s = press(live.address)
        took_s = time.monotonic() - asked_s
        assert pressed.stopped and took_s < 1.5  # the reset takes twice as long
        assert operator.reply().error.code == 9
        release(live.address)
        assert "reset" in operator.ask(step=step(FORBIDDEN)).error.message
        assert operator.ask(reset=pb.Reset(seed=0, task="sweep")).WhichOneof("reply") == "observation"
        assert operator.ask(step=step(sweep(SPEC.control_hz, 0, 2))).step.executed == 2
        live.evidence.check()
    table.add("e-stop during reset", "until it answers, ms", [took_s * 1e3])


def test_our_own_client_raises_what_it_is_and_goes_on_after_the_release(live: Host) -> None:
    with (
        RemoteRobot(live.address, name="arm operator") as robot,
        RemoteRobot(live.address, name="onlooker") as onlooker,
    ):
        robot.reset(0, "sweep")
        threading.Timer(0.3, onlooker.emergency_stop).start()
        cut = robot.step(*sweep(SPEC.control_hz, 0, 30), frames=False)
        assert cut.dropped > 0 and cut.executed < 10
        with pytest.raises(EmergencyStopError, match="pressed by onlooker"):
            robot.step(*sweep(SPEC.control_hz, 0, 1))
        onlooker.release_emergency_stop()
        assert robot.step(*sweep(SPEC.control_hz, 0, 1)).executed == 1

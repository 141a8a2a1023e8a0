"""An operator that falls silent: the robot stops within watchdog_s, and whose it is then."""

from __future__ import annotations

import time

import grpc
import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import serve_robot
from embodied.types import PoseAction
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2
from tests.paced_robot import PacedRobot
from tests.raw_operator import RawOperator, hold
from tests.remote import status, wait_until

HOLD = PoseAction(np.zeros(3, np.float32))
ABORTED = grpc.StatusCode.ABORTED
LONG_S = 15.0  # of a motion that is to be cut short


def test_heartbeats_keep_an_idle_operator_in_real_time() -> None:
    with (
        serve_robot(lambda: PacedRobot(realtime=True, watchdog_s=1.0)) as server,
        RemoteRobot(server.address, max_age_s=np.inf) as client,
        RawOperator(server.address) as silent,
    ):
        client.reset(0, "wait")
        with pytest.raises(grpc.RpcError, match="is held by"):
            silent.open()
        wait_until(lambda: status(server).held_s > 1.5)
        client.step(HOLD)
        assert status(server).stalls == 0


def test_heartbeats_are_heard_while_a_chunk_is_carried_out() -> None:
    with (
        serve_robot(lambda: PacedRobot(period_s=0.3, realtime=True, watchdog_s=1.0)) as server,
        RemoteRobot(server.address) as client,
    ):
        client.reset(0, "wait")
        step = client.step(*[HOLD] * 6)
        assert step.executed == 6 and status(server).stalls == 0


def test_in_real_time_silence_stops_the_robot_within_the_watchdogs_time_and_ends_the_session() -> None:
    robot = PacedRobot(period_s=LONG_S, realtime=True, watchdog_s=0.2)
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as operator:
        operator.open("anna")
        operator.send(reset=pb.Reset(task="wait"))
        spoke = time.monotonic()
        assert robot.paced.halt.wait(10)
        assert 0.15 < time.monotonic() - spoke < LONG_S / 2  # tests/faults measures it
        assert operator.ended() == (ABORTED, "no sign of life from anna for 0.2 s; the robot has stopped")
        wait_until(lambda: status(server).holder == "")
        assert status(server).stalls == 1


def test_in_simulated_time_a_silent_operator_goes_on_unless_another_came() -> None:
    robot = PacedRobot(watchdog_s=0.1)
    with (
        serve_robot(lambda: robot) as server,
        RawOperator(server.address) as first,
        RawOperator(server.address) as second,
    ):
        first.begin("anna")
        wait_until(lambda: status(server).stalls == 1)
        assert robot.stops == 0  # nothing moved
        assert first.ask(step=hold()).step.executed == 1
        wait_until(lambda: status(server).stalls == 2)
        assert second.open("ben").HasField("opened")
        assert first.ended()[0] is ABORTED


def test_in_simulated_time_too_silence_cuts_a_chunk_short() -> None:
    robot = PacedRobot(watchdog_s=0.1)
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as operator:
        operator.begin()
        robot.paced.period_s = 0.05
        step = operator.ask(step=hold(20)).step
        assert 1 <= step.executed < 20 and step.executed + step.dropped == 20


def test_commands_that_wait_behind_a_silence_are_refused_not_carried_out() -> None:
    robot = PacedRobot(watchdog_s=0.1)
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as operator:
        operator.begin()
        robot.paced.period_s = 0.05
        for _ in range(3):
            operator.send(step=hold(10))
        assert operator.reply().step.dropped
        for _ in range(2):
            assert operator.reply().error.code == types_pb2.ERROR_CODE_LATE

"""Deadlines of actions: by the server's clock alone, what is late is dropped, counted and told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import RobotServer, serve_robot
from embodied.errors import ProtocolError
from embodied.types import PoseAction
from embodied.v1 import types_pb2
from tests.dummy_robot import DummyRobot
from tests.paced_robot import PacedRobot
from tests.raw_operator import RawOperator, hold
from tests.remote import status

HOLD = PoseAction(np.zeros(3, np.float32))


@pytest.fixture
def robot() -> PacedRobot:
    return PacedRobot()


@pytest.fixture
def server(robot: PacedRobot) -> Iterator[RobotServer]:
    with serve_robot(lambda: robot) as server:
        yield server


def test_actions_that_come_in_time_are_carried_out_by_the_servers_clock_alone(server: RobotServer) -> None:
    with RawOperator(server.address) as operator:
        began_ns = operator.begin().server_ns
        assert 0 <= time.monotonic_ns() - began_ns < 10e9  # the same machine, so we may look
        step = operator.ask(step=hold(3), answers_ns=began_ns, within_ns=3600 * 10**9)
        assert step.step.executed == 3 and step.step.dropped == 0 and step.server_ns > began_ns


def test_late_actions_are_dropped_counted_and_told_and_the_robot_holds(server: RobotServer, robot: PacedRobot) -> None:
    with RawOperator(server.address) as operator:
        began = operator.begin()
        steps, stops = robot.steps, robot.stops
        reply = operator.ask(step=hold(3), answers_ns=began.server_ns, within_ns=1)
        assert (reply.step.executed, reply.step.dropped) == (0, 3)
        (late,) = reply.step.interventions
        assert late.kind == "late" and late.field == "age_s" and 1e-9 == late.applied < late.requested < 10
        assert (robot.steps, robot.stops) == (steps, stops + 1)
        assert reply.step.observation.state == began.observation.state and reply.server_ns > began.server_ns
        assert status(server).late_actions == 3
        fresh = operator.ask(step=hold(3), answers_ns=reply.server_ns, within_ns=10 * 10**9)
        assert fresh.step.executed == 3


def test_actions_grow_late_while_they_wait_for_the_robot() -> None:
    robot = PacedRobot()
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as operator:
        began_ns = operator.begin().server_ns
        robot.paced.period_s = 0.2
        operator.send(step=hold(2))
        operator.send(step=hold(2), answers_ns=began_ns, within_ns=150 * 10**6)  # in time as it arrives
        assert operator.reply().step.executed == 2
        assert operator.reply().step.dropped == 2


@pytest.mark.parametrize("realtime", [False, True])
def test_a_robot_that_cannot_be_looked_at_shows_what_it_showed_last(realtime: bool) -> None:
    robot = DummyRobot(front=(24, 32))
    robot.body._spec = replace(robot.spec, realtime=realtime, watchdog_s=5.0)
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as operator:
        began = operator.begin()
        reply = operator.ask(step=hold(), answers_ns=began.server_ns, within_ns=1)
        assert reply.step.dropped == 1 and reply.step.observation.state == began.observation.state
        assert (reply.server_ns == began.server_ns) == realtime  # in real time it has grown old


@pytest.mark.parametrize(("answers_ns", "within_ns"), [(2**62, 1), (0, -1)])
def test_a_deadline_that_is_none_is_refused(server: RobotServer, answers_ns: int, within_ns: int) -> None:
    with RawOperator(server.address) as operator:
        operator.begin()
        reply = operator.ask(step=hold(), answers_ns=answers_ns, within_ns=within_ns)
        assert reply.error.code == types_pb2.ERROR_CODE_PROTOCOL


def test_a_slow_client_is_told_that_its_actions_were_late_and_goes_on(server: RobotServer) -> None:
    with RemoteRobot(server.address, max_age_s=0.05) as client:
        seen = client.reset(0, "wait")
        time.sleep(0.06)
        step = client.step(HOLD, HOLD)
        assert (step.executed, step.dropped, set(step.observation.frames)) == (0, 2, set(seen.frames))
        assert [i.kind for i in step.interventions] == ["late"] and step.interventions[0].requested > 0.05
        assert client.step(HOLD, HOLD).executed == 2


@pytest.mark.parametrize(("realtime", "late"), [(True, True), (False, False)])
def test_by_default_only_where_time_is_real_are_actions_ever_late(realtime: bool, late: bool) -> None:
    with (
        serve_robot(lambda: PacedRobot(realtime=realtime, watchdog_s=0.6)) as server,
        RemoteRobot(server.address) as client,
    ):
        client.reset(0, "wait")
        time.sleep(0.65)
        assert bool(client.step(HOLD).dropped) == late


def test_an_age_that_is_none_is_refused(server: RobotServer) -> None:
    for age_s in (0.0, -1.0, np.nan):
        with pytest.raises(ProtocolError, match="max_age_s must be above 0"):
            RemoteRobot(server.address, max_age_s=age_s)

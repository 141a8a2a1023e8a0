"""The emergency stop: it needs no lease, preempts everything, stays latched, and is one command away."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from embodied.bridge.credentials import ServerCredentials
from embodied.bridge.emergency import stop_button
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import RobotServer, serve_robot
from embodied.cli import main
from embodied.errors import EmergencyStopError, HardwareError, ProtocolError
from embodied.types import Observation, PoseAction, Step
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2
from tests.dummy_robot import DummyRobot
from tests.paced_robot import PacedRobot
from tests.raw_operator import RawOperator, hold

HOLD = PoseAction(np.zeros(3, np.float32))
LONG_S = 15.0  # of a motion that is to be cut short


class UnstoppableRobot(DummyRobot):
    """A robot whose stop has a fault of its own."""

    def stop(self) -> None:
        super().stop()
        raise OSError("the bus is gone")

    def close(self) -> None:
        self.body.close()


class RefusingRobot(DummyRobot):
    """A robot that cannot begin an episode once it was told to stop, as hardware on its way home."""

    def __init__(self) -> None:
        super().__init__()
        self.beginning, self.told = threading.Event(), threading.Event()

    def reset(self, seed: int, task: str) -> Observation:
        self.beginning.set()
        assert self.told.wait(10)
        raise HardwareError("stopped on its way home")

    def stop(self) -> None:
        super().stop()
        self.told.set()


@pytest.fixture
def robot() -> PacedRobot:
    return PacedRobot()


@pytest.fixture
def server(robot: PacedRobot) -> Iterator[RobotServer]:
    with serve_robot(lambda: robot) as server:
        yield server


def press(server: RobotServer, name: str = "ben") -> None:
    with stop_button(server.address, name) as button:
        assert button.press().stopped


def release(server: RobotServer) -> None:
    with stop_button(server.address) as button:
        assert not button.release().stopped


def test_a_chunk_under_way_returns_with_the_rest_dropped_and_nothing_follows(
    robot: PacedRobot, server: RobotServer
) -> None:
    with RemoteRobot(server.address) as operator:
        operator.reset(0, "wait")
        robot.paced.period_s = LONG_S
        robot.paced.moving.clear()
        steps = list[Step]()
        stepping = threading.Thread(target=lambda: steps.append(operator.step(*[HOLD] * 5)))
        stepping.start()
        assert robot.paced.moving.wait(10)
        started = time.monotonic()
        press(server)
        stepping.join(10)
        assert time.monotonic() - started < LONG_S / 2
        assert steps[0].executed + steps[0].dropped == 5 and steps[0].dropped >= 4
        robot.paced.period_s, moved = 0.0, robot.steps
        said = r"emergency stop of dummy was pressed by ben at \d\d:\d\d:\d\d UTC .*embodied stop ADDRESS --release"
        for refused in (lambda: operator.step(HOLD), lambda: operator.reset(0, "wait")):
            with pytest.raises(EmergencyStopError, match=said):
                refused()
        assert robot.steps == moved and robot.resets == 1


def test_once_released_the_operator_goes_on_where_it_stood(robot: PacedRobot, server: RobotServer) -> None:
    with RemoteRobot(server.address, name="anna") as operator:
        operator.reset(0, "wait")
        assert operator.emergency_stop().stopped_by == "anna"
        with pytest.raises(EmergencyStopError):
            operator.step(HOLD)
        assert not operator.release_emergency_stop().stopped
        assert operator.step(HOLD).executed == 1 and operator.status().holder == "anna"


def test_a_reset_under_way_is_cut_short_and_begins_no_episode(robot: PacedRobot, server: RobotServer) -> None:
    robot.paced.period_s = LONG_S
    with RawOperator(server.address) as operator:
        operator.open()
        operator.send(reset=pb.Reset(task="wait"))
        assert robot.paced.moving.wait(10)
        started = time.monotonic()
        press(server)
        assert operator.reply().error.code == types_pb2.ERROR_CODE_STOPPED
        assert time.monotonic() - started < LONG_S / 2
        release(server)
        assert operator.ask(step=hold()).error.message.startswith("step before reset")


def test_where_a_robot_could_not_begin_for_the_emergency_stop_the_operator_is_told_of_that() -> None:
    robot = RefusingRobot()
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as operator:
        operator.open()
        operator.send(reset=pb.Reset(task="wait"))
        assert robot.beginning.wait(10)
        press(server)
        assert operator.reply().error.code == types_pb2.ERROR_CODE_STOPPED


def test_pressed_twice_it_is_latched_once_and_released_once(server: RobotServer) -> None:
    with RemoteRobot(server.address) as operator:
        operator.reset(0, "wait")
        press(server, "ben")
        press(server, "cara")
        assert operator.status().stopped_by == "ben"
        release(server)
        release(server)
        operator.step(HOLD)


def test_what_waits_behind_a_motion_is_refused_and_the_session_goes_on(robot: PacedRobot, server: RobotServer) -> None:
    with RawOperator(server.address) as operator:
        operator.begin()
        robot.paced.period_s = LONG_S
        robot.paced.moving.clear()
        for _ in range(4):
            operator.send(step=hold(3))
        assert robot.paced.moving.wait(10)
        press(server)
        assert operator.reply().step.dropped
        assert [operator.reply().error.code for _ in range(3)] == [types_pb2.ERROR_CODE_STOPPED] * 3


def test_a_motion_that_begins_as_the_stop_comes_is_stopped_all_the_same() -> None:
    """The robot forgets a stop as a motion begins, as any may: the server says it again until the motion is over."""
    robot = PacedRobot()
    with serve_robot(lambda: robot) as server:
        for _ in range(100):
            with RawOperator(server.address) as operator:
                operator.begin()
                robot.paced.period_s = LONG_S
                operator.send(step=hold(2))
                press(server)
                reply = operator.reply()
                assert reply.step.dropped or reply.error.code == types_pb2.ERROR_CODE_STOPPED
                release(server)
                robot.paced.period_s = 0.0
                operator.leave()


def test_the_stop_works_when_nobody_holds_the_robot_and_outlives_its_operators(server: RobotServer) -> None:
    press(server)
    with RemoteRobot(server.address) as operator, pytest.raises(EmergencyStopError):
        operator.reset(0, "wait")
    with RemoteRobot(server.address) as another, pytest.raises(EmergencyStopError):
        another.reset(0, "wait")


def test_a_plain_stop_is_not_latched(robot: PacedRobot, server: RobotServer) -> None:
    with RemoteRobot(server.address) as operator, RemoteRobot(server.address) as bystander:
        operator.reset(0, "wait")
        bystander.stop()
        assert robot.stops == 1 and operator.step(HOLD).executed == 1


def test_a_robot_that_fails_to_stop_is_latched_and_the_caller_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with serve_robot(UnstoppableRobot) as server, RemoteRobot(server.address) as operator:
        operator.reset(0, "wait")
        said = "the emergency stop is latched, but dummy failed to stop with OSError: the bus is gone"
        with pytest.raises(ProtocolError, match=said) as failure:
            operator.emergency_stop()
        assert "Traceback" not in str(failure.value) and "Traceback" in caplog.text
        with pytest.raises(EmergencyStopError):
            operator.step(HOLD)
        with pytest.raises(ProtocolError, match="dummy failed to stop with OSError"):
            operator.stop()


def test_streams_of_every_kind_cannot_keep_the_stop_waiting(robot: PacedRobot, server: RobotServer) -> None:
    robot.paced.period_s = LONG_S
    channels = [grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(100)]
    operators = [RawOperator(server.address) for _ in range(40)]
    for channel in channels:
        watch = channel.unary_stream("/embodied.v1.RobotService/Watch")
        watch(b"")
    started = time.monotonic()
    press(server)
    assert time.monotonic() - started < LONG_S / 2
    for operator in operators:
        operator.__exit__()
    for channel in channels:
        channel.close()


# The verb.


def test_the_verb_stops_shows_and_releases(
    robot: PacedRobot, server: RobotServer, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.address
    with RemoteRobot(address, name="anna") as operator:
        operator.reset(0, "wait")
        assert main(["stop", address, "--status"]) == 0
        said = capsys.readouterr().out
        assert "not stopped\nheld by anna for " in said and "1 sessions, 0 requests refused" in said
        assert main(["stop", address]) == 0
        said = capsys.readouterr().out
        assert f"stopped {address}; nothing moves until: embodied stop {address} --release" in said
        assert "held by anna for " in said and robot.stops == 1
        with pytest.raises(EmergencyStopError):
            operator.step(HOLD)
        assert main(["stop", address, "--status"]) == 1
        assert "stopped by " in capsys.readouterr().out
        assert main(["stop", address, "--release"]) == 0
        assert f"released {address}; the robot may be moved again" in capsys.readouterr().out
        operator.step(HOLD)
        assert main(["stop", address, "--release"]) == 0
        assert "it was not stopped" in capsys.readouterr().out


def test_the_release_that_the_verb_prints_can_be_typed_as_it_stands(
    tmp_path: Path, robot: PacedRobot, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "the token"
    token.write_text("0123456789abcdef0123456789abcdef")
    token.chmod(0o600)
    with serve_robot(lambda: robot, credentials=ServerCredentials(token=token)) as server:
        assert main(["stop", server.address, "--token", str(token)]) == 0
        _, _, printed = capsys.readouterr().out.splitlines()[0].partition("until: embodied ")
        assert main(shlex.split(printed)) == 0
        assert "may be moved again" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--tls", "--token"])
def test_a_stop_that_is_refused_its_own_credentials_says_that_nothing_stopped(
    flag: str, server: RobotServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", server.address, flag, "/nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the robot is NOT stopped" in line and "/nowhere" in line


def test_the_verb_says_at_once_that_nobody_is_there(server: RobotServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.stop()
    started = time.monotonic()
    assert main(["stop", server.address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the robot is NOT stopped as far as is known, cut its power: robot server at {server.address}" in line
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["127.0.0.1:1", "--status", "--release"]])
def test_what_the_verb_cannot_read_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", *arguments]) == 2
    assert "error: " in capsys.readouterr().err


def test_the_verb_says_that_the_robot_failed_to_stop(capsys: pytest.CaptureFixture[str]) -> None:
    with serve_robot(UnstoppableRobot) as server:
        assert main(["stop", server.address]) == 2
        assert "is latched, but dummy failed to stop" in capsys.readouterr().err

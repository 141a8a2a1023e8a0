"""The robot bridge: a remote robot is the local one, and what goes wrong is told without ending the server."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from embodied.bridge.address import MAX_MESSAGE_BYTES
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import RobotServer, serve_robot
from embodied.errors import (
    EmbodiedError,
    InvalidActionError,
    InvalidInstructionError,
    ProtocolError,
    UnknownNameError,
)
from embodied.types import Action, Observation, PoseAction, Robot, SkillCall, Step, TextAction
from embodied.v1 import robot_pb2 as pb
from tests.dummy_robot import DummyRobot
from tests.remote import remote_robot, wait_until
from tests.robot_contract import RobotContract, assert_same_observation, assert_same_step

HOLD = PoseAction(np.zeros(3, np.float32))
ROOT = Path(__file__).parents[1]


class TestLocalDummy(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[Robot]:
        robot = DummyRobot()
        yield robot
        robot.close()


class TestRemoteDummy(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[Robot]:
        with remote_robot(DummyRobot) as robot:
            yield robot


class StuckRobot(DummyRobot):
    """A robot whose step takes until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.stepping, self.stopped = threading.Event(), threading.Event()

    def step(self, *actions: Action, frames: bool = True) -> Step:
        self.stepping.set()
        self.stopped.wait(20)
        return super().step(*actions, frames=frames)

    def stop(self) -> None:
        super().stop()
        self.stopped.set()


class BrokenRobot(DummyRobot):
    """A robot with a fault of its own."""

    def step(self, *actions: Action, frames: bool = True) -> Step:
        raise ValueError("the gripper fell off")

    def reset(self, seed: int, task: str) -> Observation:
        if task == "reach":
            sys.exit("as some vendors' libraries do")
        return super().reset(seed, task)


@pytest.fixture
def dummy() -> DummyRobot:
    return DummyRobot()


@pytest.fixture
def server(dummy: DummyRobot) -> Iterator[RobotServer]:
    with serve_robot(lambda: dummy) as server:
        yield server


def test_whatever_is_asked_the_remote_step_equals_the_local_one() -> None:
    random = np.random.default_rng(0)
    requests: list[tuple[list[Action], bool]] = [
        ([PoseAction(random.normal(size=3).astype(np.float32))], True),
        ([PoseAction(random.normal(size=3))], False),  # float64 stays float64
        ([PoseAction(np.array([np.nan, 0, 0], np.float32)), PoseAction(np.array([9, -9, np.inf], np.float32))], True),
        ([TextAction("move left"), HOLD, SkillCall("home", {"lift": 0.25, "note": "gently"})], True),
        ([TextAction("self-destruct"), SkillCall("fly")], True),  # which it does not know
        ([HOLD] * 50, True),  # past the end of the episode
    ]
    local = DummyRobot()
    with remote_robot(DummyRobot) as remote:
        assert remote.spec == local.spec
        assert_same_observation(remote.reset(5, "reach"), local.reset(5, "reach"))
        for actions, frames in requests:
            assert_same_step(remote.step(*actions, frames=frames), local.step(*actions, frames=frames))


def test_a_unix_socket_serves_as_well_and_is_gone_afterwards(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/robot"
    for _ in range(2):
        with serve_robot(DummyRobot, address) as server, RemoteRobot(address) as robot:
            assert server.address == address
            assert_same_observation(robot.reset(5, "reach"), DummyRobot().reset(5, "reach"))


def test_every_call_but_stop_is_made_on_the_thread_that_made_the_robot() -> None:
    made: list[DummyRobot] = []
    with remote_robot(lambda: made.append(DummyRobot()) or made[0]) as robot:  # type: ignore[func-returns-value]
        robot.reset(0, "wait")
        robot.step(HOLD)
    assert made[0].used_on == {made[0].made_on} and made[0].made_on != threading.get_ident()
    assert made[0].closes == 1


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (UnknownNameError, lambda robot: robot.reset(0, "juggle")),
        (InvalidActionError, lambda robot: robot.step(PoseAction(np.zeros(7, np.float32)))),
        (InvalidActionError, lambda robot: robot.step(PoseAction(np.zeros((1, 3), np.float32)))),
        (InvalidActionError, lambda robot: robot.step()),
        (ProtocolError, lambda robot: [robot.step(HOLD) for _ in range(30)]),
    ],
)
def test_what_the_robot_refuses_comes_back_as_the_same_error(
    server: RobotServer, kind: type[EmbodiedError], wrong: Callable[[Robot], object]
) -> None:
    local = DummyRobot()
    local.reset(0, "wait")
    with pytest.raises(kind) as expected:
        wrong(local)
    with RemoteRobot(server.address) as robot:
        robot.reset(0, "wait")
        with pytest.raises(kind) as refusal:
            wrong(robot)
        assert type(refusal.value) is type(expected.value) and str(refusal.value) == str(expected.value)
        robot.reset(1, "wait")  # and the session goes on


def test_what_cannot_be_sent_is_refused_before_it_is(server: RobotServer) -> None:
    with RemoteRobot(server.address) as robot:
        robot.reset(0, "wait")
        with pytest.raises(InvalidActionError, match="at most 1024"):
            robot.step(*[HOLD] * 1025)
        with pytest.raises(InvalidInstructionError, match="surrogates"):
            robot.step(TextAction("move \ud800"))
        with pytest.raises(ProtocolError, match="64 bits"):
            robot.reset(2**64, "wait")
        with pytest.raises(ProtocolError, match="complex"):
            robot.step(PoseAction(np.zeros(3, np.complex64)))
        robot.step(HOLD)


def test_a_fault_of_the_robot_is_one_line_and_the_server_lives(caplog: pytest.LogCaptureFixture) -> None:
    with remote_robot(BrokenRobot) as robot:
        robot.reset(0, "wait")
        with pytest.raises(ProtocolError) as failure:
            robot.step(HOLD)
        assert str(failure.value) == "the far side failed with ValueError: the gripper fell off"
        with pytest.raises(ProtocolError, match="SystemExit: as some vendors' libraries do"):
            robot.reset(0, "reach")
        robot.reset(0, "wait")
    assert "the gripper fell off" in caplog.text and "Traceback" in caplog.text  # the operator of the robot sees it all


def test_a_second_operator_is_refused_and_told_who_holds_the_robot(server: RobotServer) -> None:
    with RemoteRobot(server.address) as first, RemoteRobot(server.address) as second:
        first.reset(0, "wait")
        with pytest.raises(ProtocolError, match=r"dummy is held by \S+/\d+"):
            second.reset(0, "wait")
        first.step(HOLD)
    with RemoteRobot(server.address) as third:
        third.reset(0, "wait")  # held no longer


def test_an_operator_cannot_go_on_with_anothers_episode(server: RobotServer) -> None:
    with RemoteRobot(server.address) as first:
        first.reset(0, "wait")
    with RemoteRobot(server.address) as second, pytest.raises(ProtocolError, match="step before reset"):
        second.step(HOLD)


def test_the_robot_stops_when_the_stream_ends(server: RobotServer, dummy: DummyRobot) -> None:
    with RemoteRobot(server.address) as robot:
        robot.reset(0, "wait")
        assert dummy.stops == 0
    assert dummy.stops >= 1 and dummy.closes == 0


def test_the_robot_stops_and_is_free_when_its_operator_is_killed(server: RobotServer, dummy: DummyRobot) -> None:
    code = (
        "import sys, time; from embodied.bridge.robot_client import RemoteRobot\n"
        f"robot = RemoteRobot({server.address!r}); robot.reset(0, 'wait'); print('holding', flush=True); time.sleep(60)"
    )
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None and client.stdout.readline() == "holding\n"
    client.send_signal(signal.SIGKILL)
    client.communicate()
    wait_until(lambda: dummy.stops >= 1)

    def free() -> bool:
        with RemoteRobot(server.address) as robot:
            try:
                robot.reset(0, "wait")
            except ProtocolError:
                return False
            return True

    wait_until(free)


def test_anyone_may_stop_the_robot_in_the_middle_of_a_step() -> None:
    stuck = StuckRobot()
    with serve_robot(lambda: stuck) as server, RemoteRobot(server.address) as robot:
        robot.reset(0, "wait")
        stepper = threading.Thread(target=robot.step, args=(HOLD,))
        stepper.start()
        assert stuck.stepping.wait(10)
        with RemoteRobot(server.address) as bystander:
            bystander.stop()
        stepper.join(10)
        assert not stepper.is_alive() and stuck.stops >= 1


def test_a_reply_that_does_not_come_ends_the_session() -> None:
    with serve_robot(StuckRobot) as server:
        robot = RemoteRobot(server.address, reply_timeout_s=0.3)
        robot.reset(0, "wait")
        with pytest.raises(ProtocolError, match=r"did not reply within 0\.3 s"):
            robot.step(HOLD)
        with pytest.raises(ProtocolError, match="connect again"):
            robot.step(HOLD)
        robot.close()


def test_a_server_that_stops_in_mid_session_is_told(dummy: DummyRobot) -> None:
    server = serve_robot(lambda: dummy)
    robot = RemoteRobot(server.address)
    robot.reset(0, "wait")
    server.stop()
    server.stop()
    assert server.wait(0) and dummy.closes == 1
    for expected in (server.address, "connect again"):
        with pytest.raises(ProtocolError, match=expected):
            robot.step(HOLD)
    with pytest.raises(ProtocolError):
        robot.stop()
    robot.close()


def test_a_server_that_is_killed_in_mid_session_is_told() -> None:
    code = (
        "from tests.dummy_robot import DummyRobot; from embodied.bridge.robot_server import serve_robot\n"
        "server = serve_robot(DummyRobot); print(server.address, flush=True); server.wait()"
    )
    host = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    robot = RemoteRobot(host.stdout.readline().strip())
    robot.reset(0, "wait")
    host.kill()
    host.communicate()
    with pytest.raises(ProtocolError, match="cannot be reached or went away"):
        robot.step(HOLD)
    robot.close()


def test_an_address_where_nobody_answers_is_told_within_the_deadline(server: RobotServer) -> None:
    server.stop()
    started = time.monotonic()
    with pytest.raises(ProtocolError, match=f"robot server at {server.address}"):
        RemoteRobot(server.address, connect_timeout_s=0.3)
    assert time.monotonic() - started < 5


def test_what_is_no_robot_server_is_told() -> None:
    bare = grpc.server(None)
    port = bare.add_insecure_port("127.0.0.1:0")
    bare.start()
    with pytest.raises(ProtocolError, match="is no robot server"):
        RemoteRobot(f"127.0.0.1:{port}")
    bare.stop(None).wait()


def test_garbage_on_the_stream_is_refused_and_the_stream_goes_on(server: RobotServer) -> None:
    requests = [
        b"\xff" * 40,
        pb.ControlRequest(step=pb.StepRequest()).SerializeToString(),  # before open
        pb.ControlRequest(open=pb.Open(protocol=99)).SerializeToString(),
        pb.ControlRequest(open=pb.Open(protocol=2)).SerializeToString(),
        b"",
        pb.ControlRequest(reset=pb.Reset(seed=0, task="wait")).SerializeToString(),
        pb.ControlRequest(step=pb.StepRequest(actions={"poses": {"shape": [2**31, 2**31]}})).SerializeToString(),
        pb.ControlRequest(step=pb.StepRequest(actions={"mixed": [{}]})).SerializeToString(),
    ]
    with grpc.insecure_channel(server.address) as channel:
        stream = channel.stream_stream("/embodied.v1.RobotService/Control")
        replies = [pb.ControlReply.FromString(reply) for reply in stream(iter(requests))]
    said = [reply.error.message or reply.WhichOneof("reply") for reply in replies]
    assert said[0].startswith("not a ControlRequest")
    assert said[1] == "the first request of a control stream must be open"
    assert said[2] == "the client speaks version 99 of the protocol, the robot 2"
    assert said[3] == "opened"
    assert said[4].startswith("a request of no kind")
    assert said[5] == "observation"
    assert "dtype code 0" in said[6] and "no content" in said[7]


def test_a_message_over_the_cap_is_told() -> None:
    with remote_robot(DummyRobot) as robot, pytest.raises(ProtocolError, match="larger"):
        robot.step(TextAction("x" * (MAX_MESSAGE_BYTES + 1)))


def test_a_robot_that_cannot_be_made_leaves_no_server_behind(server: RobotServer) -> None:
    def fail() -> Robot:
        raise UnknownNameError("scene", "moon", "dummy", ["table"])

    server.stop()
    with pytest.raises(UnknownNameError, match="no scene 'moon'"):
        serve_robot(fail, server.address)
    with serve_robot(DummyRobot, server.address) as again:
        assert again.address == server.address


def test_what_is_asked_of_a_closed_connection_is_told_so(server: RobotServer) -> None:
    robot = RemoteRobot(server.address)
    robot.close()
    robot.close()
    robot.stop()
    for ask in (robot.status, robot.emergency_stop, lambda: robot.reset(0, "wait"), robot.reconnect):
        with pytest.raises(ProtocolError, match=f"connection to {server.address} is closed"):
            ask()

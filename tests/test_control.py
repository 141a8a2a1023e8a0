"""Control of a robot over gRPC: one operator, takeover, silence, deadlines, and streams that mean harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest

from embodied.bridge import control_session
from embodied.bridge.codec import encode_spec
from embodied.bridge.control_session import MAX_WAITING
from embodied.bridge.emergency import stop_button
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import MAX_STREAMS, RobotServer, serve_robot
from embodied.errors import ProtocolError, SpecMismatchError
from embodied.types import Camera, PoseAction
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2
from tests.dummy_robot import DummyRobot
from tests.paced_robot import PacedRobot
from tests.raw_operator import RawOperator, hold
from tests.remote import status, wait_until

HOLD = PoseAction(np.zeros(3, np.float32))
ABORTED, REFUSED = grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION
LONG_S = 15.0  # of a motion that is to be cut short


@pytest.fixture
def robot() -> PacedRobot:
    return PacedRobot()


@pytest.fixture
def server(robot: PacedRobot) -> Iterator[RobotServer]:
    with serve_robot(lambda: robot) as server:
        yield server


def test_every_difference_of_the_spec_is_told_and_nothing_is_held(server: RobotServer, robot: PacedRobot) -> None:
    other = replace(
        robot.spec,
        action=tuple(reversed(robot.spec.action)),
        cameras=(Camera("front", 24, 32, 45.0),),
        control_hz=20.0,
    )
    with RawOperator(server.address) as operator:
        refusal = operator.open(expected=encode_spec(other)).error
        assert refusal.code == types_pb2.ERROR_CODE_SPEC_MISMATCH
        for difference in ("control_hz: expected 20.0, found 10.0", "cameras: expected ['front']", "action: expected"):
            assert f"\n  - {difference}" in refusal.message
        assert status(server).holder == ""
        assert operator.open(expected=encode_spec(robot.spec)).HasField("opened")


def test_a_wrong_version_and_a_wrong_spec_are_told_together(server: RobotServer, robot: PacedRobot) -> None:
    other = encode_spec(replace(robot.spec, version="7"))
    with RawOperator(server.address) as operator:
        said = operator.ask(open=pb.Open(protocol=1, expected=other)).error.message
        assert "- the client speaks version 1 of the protocol, the robot 2" in said and "- version: expected 7" in said


def test_a_robot_that_changed_since_it_was_described_is_refused() -> None:
    with serve_robot(PacedRobot) as server, RemoteRobot(server.address) as client:
        address = server.address
        server.stop()
        with serve_robot(DummyRobot, address), pytest.raises(SpecMismatchError, match=r"cameras\.front\.height"):
            for _ in range(50):  # until the channel has found the new server
                try:
                    client.reset(0, "wait")
                except SpecMismatchError:
                    raise
                except ProtocolError:
                    time.sleep(0.1)


def test_a_session_is_opened_once(server: RobotServer) -> None:
    with RawOperator(server.address) as operator:
        operator.open()
        assert "open already" in operator.open().error.message
        assert operator.begin().error.message == "" and status(server).sessions == 1


def test_a_reply_repeats_the_number_of_its_request(server: RobotServer) -> None:
    with RawOperator(server.address) as operator:
        assert operator.ask(sequence=7, step=hold()).sequence == 7  # refused
        assert operator.ask(sequence=9, open=pb.Open(protocol=2)).sequence == 9
        assert operator.ask(sequence=8, reset=pb.Reset(task="wait")).sequence == 8
        operator.send(sequence=100, heartbeat=pb.Heartbeat())
        assert operator.ask(sequence=3, step=hold()).sequence == 3
        assert operator.ask(sequence=4, reset=pb.Reset(task="juggle")).sequence == 4


def test_a_second_operator_is_refused_at_once_in_the_middle_of_a_chunk() -> None:
    robot = PacedRobot(period_s=LONG_S)
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as first:
        first.open("anna")
        first.send(reset=pb.Reset(task="wait"))
        assert robot.paced.moving.wait(10)
        started = time.monotonic()
        said = r"is held by anna since \d\d:\d\d:\d\d UTC \(\d+\.\d s\).*takeover=True \(--takeover\)"
        with RemoteRobot(server.address) as second, pytest.raises(ProtocolError, match=said):
            second.reset(0, "wait")
        assert time.monotonic() - started < LONG_S / 2


def test_a_client_that_is_closed_cuts_what_it_waits_for_short() -> None:
    robot = PacedRobot(period_s=LONG_S)
    with serve_robot(lambda: robot) as server, RemoteRobot(server.address) as client:
        said = list[str]()

        def reset() -> None:
            with pytest.raises(ProtocolError) as failure:
                client.reset(0, "wait")
            said.append(str(failure.value))

        resetting = threading.Thread(target=reset)
        resetting.start()
        assert robot.paced.moving.wait(10)
        started = time.monotonic()
        client.close()
        resetting.join(10)
        wait_until(lambda: robot.stops > 0)
        assert time.monotonic() - started < LONG_S / 2 and "ended the session" in said[0]


def test_a_takeover_cuts_the_chunk_short_and_ends_the_other_session() -> None:
    robot = PacedRobot(period_s=LONG_S)
    with (
        serve_robot(lambda: robot) as server,
        RawOperator(server.address) as first,
        RawOperator(server.address) as second,
    ):
        first.open("anna")
        first.send(reset=pb.Reset(task="wait"))
        robot.paced.moving.wait(10)
        started = time.monotonic()
        assert second.open("ben", takeover=True).HasField("opened")
        assert time.monotonic() - started < LONG_S / 2
        assert first.ended() == (ABORTED, "ben took the robot over; it has stopped")
        assert second.ask(step=hold()).error.message.startswith("step before reset")


def test_nothing_of_the_old_session_is_carried_out_once_the_new_one_is_open() -> None:
    robot = PacedRobot(period_s=0.01)
    with serve_robot(lambda: robot) as server:
        for _ in range(20):
            with RawOperator(server.address) as first, RawOperator(server.address) as second:
                first.begin("anna", takeover=True)
                for _ in range(MAX_WAITING - 1):
                    first.send(step=hold(2))
                robot.paced.moving.wait(10)
                second.open("ben", takeover=True)
                steps = robot.steps
                second.ask(reset=pb.Reset(task="wait"))
                assert robot.steps == steps
                assert first.ended()[0] is ABORTED


def test_a_client_that_was_taken_over_says_so_until_it_reconnects(server: RobotServer) -> None:
    with RemoteRobot(server.address, name="anna") as first, RemoteRobot(server.address, name="ben") as second:
        first.reset(0, "wait")
        with pytest.raises(ProtocolError, match="held by anna"):
            second.reset(0, "wait")
        second.reconnect(takeover=True)
        second.reset(0, "wait")
        for words in ("ben took the robot over", "ben took the robot over.*reconnect\\(\\) or connect again"):
            with pytest.raises(ProtocolError, match=words):
                first.step(HOLD)
        with pytest.raises(ProtocolError, match="held by ben"):
            first.reconnect()
        second.close()
        first.reconnect()
        with pytest.raises(ProtocolError, match="step before reset"):
            first.step(HOLD)
        first.reset(0, "wait")
        first.step(HOLD)


def test_a_client_made_to_take_over_takes_over_once(server: RobotServer) -> None:
    with RemoteRobot(server.address) as first, RemoteRobot(server.address, takeover=True) as second:
        first.reset(0, "wait")
        second.reset(0, "wait")
        second.step(HOLD)


def race(server: RobotServer, operators: int, *, takeover: bool) -> tuple[list[RawOperator], list[RawOperator]]:
    """Open so many sessions at once; return those that were opened and are still, and all."""
    barrier = threading.Barrier(operators)
    everyone = [RawOperator(server.address) for _ in range(operators)]
    opened = list[RawOperator]()

    def run(operator: RawOperator) -> None:
        barrier.wait()
        try:
            if operator.open(takeover=takeover).HasField("opened"):
                opened.append(operator)
        except grpc.RpcError as error:
            assert takeover or error.code() in (REFUSED, grpc.StatusCode.RESOURCE_EXHAUSTED)  # type: ignore[union-attr]

    threads = [threading.Thread(target=run, args=(operator,)) for operator in everyone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return opened, everyone


@pytest.mark.parametrize("takeover", [False, True])
def test_of_operators_that_race_exactly_one_holds_the_robot(server: RobotServer, takeover: bool) -> None:
    for _ in range(100):
        opened, everyone = race(server, 3, takeover=takeover)
        assert takeover or len(opened) == 1
        assert status(server).holder == "raw"

        def moves(operator: RawOperator) -> bool:
            try:
                return operator.ask(reset=pb.Reset(task="wait")).HasField("observation")
            except grpc.RpcError as error:
                assert error.code() is ABORTED  # type: ignore[union-attr]
                return False

        (winner,) = [operator for operator in opened if moves(operator)]
        winner.leave()
        assert status(server).holder == ""
        for operator in everyone:
            operator.__exit__()


def test_of_a_hundred_at_once_one_holds_the_robot_and_the_stop_is_heard(server: RobotServer) -> None:
    opened, everyone = race(server, 100, takeover=False)
    assert len(opened) == 1 and status(server).sessions == 1
    with stop_button(server.address) as button:
        assert button.press().stopped
    for operator in everyone:
        operator.__exit__()


def test_more_requests_than_are_answered_end_the_session(robot: PacedRobot, server: RobotServer) -> None:
    robot.paced.period_s = LONG_S
    with RawOperator(server.address) as operator:
        operator.open()
        for _ in range(MAX_WAITING + 1):
            operator.send(reset=pb.Reset(task="wait"))
        code, said = operator.ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and f"more than {MAX_WAITING} requests" in said
        wait_until(lambda: status(server).holder == "")


def test_an_operator_that_reads_no_replies_is_cut_off() -> None:
    robot = DummyRobot()  # each reply is larger than what the network takes before it is read
    with serve_robot(lambda: robot) as server, grpc.insecure_channel(server.address) as channel:
        requests = [
            pb.ControlRequest(open=pb.Open(protocol=2)),
            *[pb.ControlRequest(reset=pb.Reset(task="wait"))] * 500,
        ]
        begin = channel.stream_stream("/embodied.v1.RobotService/Control")
        call = begin(request.SerializeToString() for request in requests)
        wait_until(lambda: status(server).sessions == 1)
        wait_until(lambda: status(server).holder == "")
        wait_until(lambda: "operator" not in {thread.name for thread in threading.enumerate()})
        assert robot.resets < 200  # what waited, and what the network took
        call.cancel()


def test_streams_that_open_nothing_are_ended_and_shut_nobody_out_for_long(
    server: RobotServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_session, "OPEN_TIMEOUT_S", 0.5)
    idle = [RawOperator(server.address) for _ in range(MAX_STREAMS + 30)]
    codes = [operator.ended()[0] for operator in idle]
    assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    with RemoteRobot(server.address) as client:
        client.reset(0, "wait")
    for operator in idle:
        operator.__exit__()


def test_the_stages_of_a_step_add_up_to_what_it_took(server: RobotServer, robot: PacedRobot) -> None:
    with RemoteRobot(server.address) as client:
        client.reset(0, "wait")
        missed_ns = []
        for _ in range(20):
            started_ns = time.monotonic_ns()
            step = client.step(HOLD)
            missed_ns.append(time.monotonic_ns() - started_ns - sum(step.timing_ns.values()))
            assert min(step.timing_ns.values()) >= 0 and missed_ns[-1] >= 0
    assert set(step.timing_ns) == {"queue", "motion", "render", "robot", "encode", "wire", "decode"}
    assert min(missed_ns) < 1e6  # a busy machine may take a moment between any two clocks


def test_a_reply_to_another_request_ends_the_session() -> None:
    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            sequence = pb.ControlRequest.FromString(request).sequence
            yield pb.ControlReply(sequence=sequence - 1, opened=pb.Opened()).SerializeToString()

    def describe(request: bytes, context: grpc.ServicerContext) -> bytes:
        spec = encode_spec(DummyRobot().spec)
        return pb.DescribeRobotReply(protocol=2, spec=spec).SerializeToString()

    handlers = {
        "Control": grpc.stream_stream_rpc_method_handler(answer),
        "Describe": grpc.unary_unary_rpc_method_handler(describe),
    }
    wrong = grpc.server(ThreadPoolExecutor(2))
    wrong.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("embodied.v1.RobotService", handlers),))
    port = wrong.add_insecure_port("127.0.0.1:0")
    wrong.start()
    with (
        RemoteRobot(f"127.0.0.1:{port}") as client,
        pytest.raises(ProtocolError, match=r"answered request 1 with opened to request 0"),
    ):
        client.reset(0, "wait")
    wrong.stop(None).wait()

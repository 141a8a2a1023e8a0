"""Watching a robot: anyone may, up to a number, and the operator never waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from embodied.bridge.audience import MAX_WATCHERS
from embodied.bridge.emergency import stop_button
from embodied.bridge.lease import RobotStatus
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import RobotServer, serve_robot
from embodied.bridge.watcher import RobotWatch, Sight, watch_robot
from embodied.errors import ProtocolError
from embodied.types import Observation, PoseAction, Step
from embodied.v1 import robot_pb2 as pb
from tests.dummy_robot import DummyRobot
from tests.robot_contract import assert_same_observation, assert_same_step

HOLD = PoseAction(np.zeros(3, np.float32))


@pytest.fixture
def server() -> Iterator[RobotServer]:
    with serve_robot(DummyRobot) as server:
        yield server


def see(watch: RobotWatch, kind: type[Sight]) -> Sight:
    """Return the next that is of a kind."""
    return next(sight for sight in watch if isinstance(sight, kind))


def test_a_watcher_sees_what_the_operator_sees(server: RobotServer) -> None:
    with RemoteRobot(server.address, name="anna") as operator, watch_robot(server.address, frames=True) as watch:
        first = next(watch)
        assert isinstance(first, RobotStatus) and first.holder == "" and first.sessions == 0
        observation = operator.reset(3, "wait")
        seen = see(watch, Observation)
        assert isinstance(seen, Observation) and seen.frames
        assert_same_observation(seen, observation)
        for frames in (True, False):
            step = operator.step(HOLD, HOLD, frames=frames)
            watched = see(watch, Step)
            assert isinstance(watched, Step)
            assert_same_step(watched, step)


def test_frames_come_only_to_those_who_ask(server: RobotServer) -> None:
    with RemoteRobot(server.address) as operator, watch_robot(server.address) as watch:
        next(watch)
        operator.reset(3, "wait")
        seen = see(watch, Observation)
        assert isinstance(seen, Observation) and seen.frames == {} and seen.state.shape == (4,)


def test_a_change_of_the_lease_or_the_stop_is_seen(server: RobotServer) -> None:
    with watch_robot(server.address) as watch, stop_button(server.address, "ben") as button:
        next(watch)
        with RemoteRobot(server.address, name="anna") as operator:
            operator.reset(0, "wait")
            assert any(isinstance(sight, RobotStatus) and sight.holder == "anna" for sight in watch)
            button.press()
            assert any(isinstance(sight, RobotStatus) and sight.stopped_by == "ben" for sight in watch)
            button.release()
            assert any(isinstance(sight, RobotStatus) and not sight.stopped for sight in watch)
        assert any(isinstance(sight, RobotStatus) and sight.holder == "" for sight in watch)


def test_a_watcher_that_never_reads_delays_nobody_and_then_sees_the_newest(server: RobotServer) -> None:
    with RemoteRobot(server.address) as operator, watch_robot(server.address, frames=True) as watch:
        next(watch)
        started = time.monotonic()
        for seed in range(300):  # 45 MB, of which the network holds little
            observation = operator.reset(seed, "wait")
        assert time.monotonic() - started < 10
        seen = list[Sight]()
        while not (seen and isinstance(seen[-1], Observation) and (seen[-1].state == observation.state).all()):
            seen.append(next(watch))
        assert len(seen) < 100


def test_more_watchers_than_there_are_seats_are_refused_and_a_seat_is_free_again(server: RobotServer) -> None:
    watches = [watch_robot(server.address) for _ in range(MAX_WATCHERS)]
    for watch in watches:
        next(watch)
    with watch_robot(server.address) as one_too_many, pytest.raises(ProtocolError, match=f"watched by {MAX_WATCHERS}"):
        next(one_too_many)
    watches[0].close()
    deadline = time.monotonic() + 10
    while True:
        with watch_robot(server.address) as watch:
            try:
                assert isinstance(next(watch), RobotStatus)
                break
            except ProtocolError:
                assert time.monotonic() < deadline
    for watch in watches:
        watch.close()


def test_a_watch_that_is_closed_ends_for_whoever_waits_in_it(server: RobotServer) -> None:
    watch = watch_robot(server.address)
    seen = list[Sight]()
    begun = threading.Event()

    def follow() -> None:
        for sight in watch:
            seen.append(sight)
            begun.set()

    following = threading.Thread(target=follow)
    following.start()
    assert begun.wait(10)
    watch.close()
    watch.close()
    following.join(10)
    assert not following.is_alive() and len(seen) == 1


def test_a_server_that_goes_away_is_told(server: RobotServer) -> None:
    with watch_robot(server.address) as watch:
        next(watch)
        server.stop()
        with pytest.raises(ProtocolError, match=server.address):
            list(watch)


def test_any_client_can_watch_from_the_schema_alone(server: RobotServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        watch = channel.unary_stream(
            "/embodied.v1.RobotService/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchReply.FromString,
        )(pb.WatchRequest(client="viewer", frames=True))
        assert next(watch).HasField("status")
        with RemoteRobot(server.address) as operator:
            operator.reset(0, "wait")
            reply = next(reply for reply in watch if reply.HasField("observation"))
        assert {frame.camera for frame in reply.frames} == {"front", "wrist"} and reply.server_ns > 0
        watch.cancel()

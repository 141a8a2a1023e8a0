"""A quick policy is asked without a change of threads; one that turns slow is listened to while it thinks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import ClassVar

import grpc
import numpy as np
import pytest

from embodied.bridge.address import PROTOCOL
from embodied.bridge.codec import encode_observation, encode_spec
from embodied.bridge.policy_server import PolicyServer, serve_policy
from embodied.bridge.policy_session import QUICK_NS
from embodied.types import Action, Observation, PoseAction, RobotSpec
from embodied.v1 import policy_pb2 as pb
from embodied.v1 import types_pb2
from tests.dummy_robot import DummyRobot
from tests.policy_contract import random_observation

SPEC = DummyRobot().spec
LATE = types_pb2.ERROR_CODE_LATE


class PacedPolicy:
    """Answers at once, or when it is told to; remembers on which threads it was asked."""

    asked = threading.Event()
    told = threading.Event()
    threads: ClassVar[set[int]] = set()

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self.threads.clear()

    def act(self, observation: Observation) -> Sequence[Action]:
        self.threads.add(threading.get_ident())
        if observation.instruction == "wait":
            self.asked.set()
            assert self.told.wait(10)
        return [PoseAction(np.zeros(3, np.float32))]


class Stream:
    """A client that may send before it is answered."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies = channel.stream_stream("/embodied.v1.PolicyService/Act")(iter(self._requests.get, None))
        self._sequence = 0

    def begin(self) -> None:
        begin = pb.Begin(instruction="go", spec=encode_spec(SPEC), protocol=PROTOCOL)
        self._requests.put(pb.ActRequest(begin=begin).SerializeToString())
        assert self.reply().WhichOneof("reply") == "begun"

    def send(self, instruction: str) -> int:
        self._sequence += 1
        observation = encode_observation(random_observation(SPEC, 0, instruction))
        self._requests.put(pb.ActRequest(sequence=self._sequence, observation=observation).SerializeToString())
        return self._sequence

    def reply(self) -> pb.ActReply:
        return pb.ActReply.FromString(next(self._replies))

    def end(self) -> None:
        self._requests.put(None)
        assert list(self._replies) == []


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    PacedPolicy.asked.clear()
    PacedPolicy.told.clear()
    with serve_policy(PacedPolicy) as server:
        yield server


@pytest.fixture
def stream(server: PolicyServer) -> Iterator[Stream]:
    with grpc.insecure_channel(server.address) as channel:
        stream = Stream(channel)
        stream.begin()
        yield stream


def tell_after(delay_s: float) -> None:
    threading.Timer(delay_s, PacedPolicy.told.set).start()


def answer_quickly(stream: Stream, count: int) -> None:
    for _ in range(count):
        sequence = stream.send("go")
        reply = stream.reply()
        assert reply.sequence == sequence and reply.WhichOneof("reply") == "actions"


def test_a_quick_policy_comes_to_be_asked_on_one_thread_and_every_request_is_answered(stream: Stream) -> None:
    answer_quickly(stream, 5)
    PacedPolicy.threads.clear()
    answer_quickly(stream, 200)
    assert len(PacedPolicy.threads) <= 2  # a second where the machine once took it for slow
    stream.end()


def test_requests_at_once_to_a_quick_policy_are_answered_in_order(stream: Stream) -> None:
    answer_quickly(stream, 5)
    sent = [stream.send("go") for _ in range(50)]
    assert [stream.reply().sequence for _ in sent] == sent
    stream.end()


@pytest.mark.parametrize("quick", [0, 5])
def test_while_a_policy_thinks_a_newer_observation_overtakes_an_older(stream: Stream, quick: int) -> None:
    answer_quickly(stream, quick)
    if quick:  # once it is found to be slow it is listened to again
        tell_after(5 * QUICK_NS / 1e9)
        stream.send("wait")
        assert stream.reply().WhichOneof("reply") == "actions"
        PacedPolicy.asked.clear()
        PacedPolicy.told.clear()
    sent = [stream.send("wait")]
    assert PacedPolicy.asked.wait(10)
    sent += [stream.send("go"), stream.send("go")]
    tell_after(0.5)  # when a request has been heard shows nowhere
    replies = [stream.reply() for _ in sent]
    assert [reply.sequence for reply in replies] == sent
    assert [reply.WhichOneof("reply") for reply in replies] == ["actions", "error", "actions"]
    assert replies[1].error.code == LATE and "overtook" in replies[1].error.message
    stream.end()


def test_a_stream_that_breaks_while_a_quick_policy_is_asked_leaves_room_for_the_next(server: PolicyServer) -> None:
    for _ in range(20):  # more than there are sessions
        with grpc.insecure_channel(server.address) as channel:
            stream = Stream(channel)
            stream.begin()
            answer_quickly(stream, 4)

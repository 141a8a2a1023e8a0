"""Messages that are broken, hostile, too large or too many: refused in words by a server that lives and stays small."""

from __future__ import annotations

import queue
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import cv2
import grpc
import numpy as np
import pytest

from embodied.bridge.address import MAX_MESSAGE_BYTES, PROTOCOL
from embodied.bridge.codec import encode_spec
from embodied.v1 import policy_pb2
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types
from tests.faults.evidence import wait_until
from tests.faults.processes import Host, Process, process
from tests.faults.trials import Table
from tests.faults.wire import FORBIDDEN, alive, status, step, unary
from tests.live_robot import SIZE, SPEC, sweep
from tests.raw_operator import OPTIONS, RawOperator

GROWTH_MB = 400.0  # by malformed input; a message may have 67
# A request that is too large or too many; or, on a busy machine, the heart that cannot be heard for them.
ENDS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)
GOOD = np.array([[0.0, 0.5]], "<f4").tobytes()  # what must not be carried out, as the array of a pose


def poses(**array: Any) -> pb.ControlRequest:
    return pb.ControlRequest(step={"actions": {"poses": {"dtype": 4, "shape": [1, 2], "data": GOOD, **array}}})


MALFORMED = {
    "random bytes": random.Random(0).randbytes(300),
    "a request cut short": poses().SerializeToString()[:-3],
    "a number that does not end": b"\x08" + b"\xff" * 40,
    "nested groups": b"\x0b" * 100_000,
    "no request": b"",
    "nothing in a step": pb.ControlRequest(step={}),
    "too few numbers": poses(shape=[1, 1], data=GOOD[:4]),
    "too many numbers": poses(shape=[1, 3], data=GOOD + GOOD[:4]),
    "a flat pose": poses(shape=[2]),
    "one dimension too many": poses(shape=[1, 1, 2]),
    "no actions": poses(shape=[0, 2], data=b""),
    "data shorter than its shape": poses(data=GOOD[:-1]),
    "data longer than its shape": poses(data=GOOD * 2),
    "a size bomb": poses(shape=[2**31, 2**31]),
    "a size bomb of many dimensions": poses(shape=[2**16] * 30),
    "an unknown dtype": poses(dtype=77),
    "no dtype": poses(dtype=0),
    "more actions than a chunk may have": poses(shape=[2000, 2], data=GOOD * 2000),
    "4 MB of actions": poses(shape=[500_000, 2], data=GOOD * 500_000),
    "both kinds of action": pb.ControlRequest(
        step={"actions": {"poses": {"dtype": 4, "shape": [1, 2], "data": GOOD}, "mixed": [{"text": "up"}]}}
    ),
    "a million empty actions": pb.ControlRequest(step={"actions": {"mixed": [{}] * 1_000_000}}),
    "a negative deadline": pb.ControlRequest(step=step(FORBIDDEN), within_ns=-1),
    "an answer to what was not said yet": pb.ControlRequest(step=step(FORBIDDEN), answers_ns=2**62, within_ns=1),
    "an unknown task": pb.ControlRequest(reset={"task": "juggle"}),
    "open once more": pb.ControlRequest(open={"protocol": PROTOCOL, "client": "again"}),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused_and_the_session_goes_on(what: str, live: Host, table: Table) -> None:
    before_mb, request = live.peak_mb, MALFORMED[what]
    with RawOperator(live.address) as operator, alive(operator):
        operator.begin(task="sweep")
        operator.send_bytes(request if isinstance(request, bytes) else request.SerializeToString())
        reply = operator.reply()
        assert reply.WhichOneof("reply") == "error", reply
        assert reply.error.message and "Traceback" not in reply.error.message and len(reply.error.message) < 2000
        assert operator.ask(step=step(sweep(SPEC.control_hz, 0, 1))).step.executed == 1
    table.add("malformed request", "memory gained, MB", [live.peak_mb - before_mb], allowed=GROWTH_MB)


def test_a_message_over_the_cap_ends_its_session_alone(live: Host, table: Table) -> None:
    before_mb = live.peak_mb
    for _ in range(3):
        with RawOperator(live.address) as operator:
            operator.begin(task="sweep")
            operator.send_bytes(bytes(MAX_MESSAGE_BYTES + 1))
            assert operator.ended()[0] in ENDS
    wait_until(lambda: not status(live.address).holder)
    table.add("message over the cap", "memory gained, MB", [live.peak_mb - before_mb], allowed=GROWTH_MB)


@pytest.mark.parametrize("size", [100, 1_000_000, 60_000_000])
def test_an_endless_stream_without_a_listener_is_cut(size: int, live: Host, table: Table) -> None:
    before_mb = live.peak_mb
    request = pb.ControlRequest(step={"actions": {"mixed": [{"text": "x" * size}]}}).SerializeToString()
    with RawOperator(live.address) as operator:
        operator.begin(task="sweep")
        for _ in range(100):
            operator.send_bytes(request)
        asked_s = time.monotonic()
        unary(live.address, "Stop", pb.StopRequest())
        answered_ms = (time.monotonic() - asked_s) * 1e3
        assert operator.ended()[0] in ENDS
    words = f"endless stream of {size / 1e6:g} MB each"
    table.add(words, "memory gained, MB", [live.peak_mb - before_mb], allowed=GROWTH_MB)
    table.add(words, "until a stop is answered meanwhile, ms", [answered_ms])


def test_heartbeats_without_end_keep_nobody_from_the_robot(live: Host, table: Table) -> None:
    before_mb, answered_ms = live.peak_mb, list[float]()
    beat = pb.ControlRequest(heartbeat={}).SerializeToString()
    with RawOperator(live.address) as operator:
        operator.begin(task="sweep")
        for _ in range(10):
            for _ in range(2000):
                operator.send_bytes(beat)
            asked_s = time.monotonic()
            assert status(live.address).holder == "raw"
            answered_ms.append((time.monotonic() - asked_s) * 1e3)
        assert operator.ask(step=step(sweep(SPEC.control_hz, 0, 1))).step.executed == 1
    table.add("heartbeats without end", "until status is answered, ms", answered_ms)
    table.add("heartbeats without end", "memory gained, MB", [live.peak_mb - before_mb], allowed=GROWTH_MB)


@pytest.mark.parametrize("seed", range(5))
def test_garbage_on_the_port_harms_nobody(seed: int, live: Host) -> None:
    host, _, port = live.address.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if seed % 2 else b""
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(preface + random.Random(seed).randbytes(10_000))
    assert unary(live.address, "Describe", pb.DescribeRobotRequest()).spec.name == "live"
    assert "Traceback" not in live.said()


# -- the policy's server, which frames are sent to


class Session:
    """A session of raw messages with a policy server."""

    def __init__(self, address: str, channel: grpc.Channel) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.call = channel.stream_stream("/embodied.v1.PolicyService/Act")(iter(self._requests.get, None), timeout=60)

    def send_bytes(self, request: bytes) -> None:
        self._requests.put(request)

    def ask(self, **request: Any) -> policy_pb2.ActReply:
        self.send_bytes(policy_pb2.ActRequest(**request).SerializeToString())
        return policy_pb2.ActReply.FromString(next(self.call))

    def begin(self) -> policy_pb2.ActReply:
        offer = types.FrameOffer(encodings=[types.FRAME_ENCODING_JPEG, types.FRAME_ENCODING_RAW])
        request = policy_pb2.Begin(instruction="hold", spec=encode_spec(SPEC), frames=offer)
        if "protocol" in policy_pb2.Begin.DESCRIPTOR.fields_by_name:
            request.protocol = PROTOCOL
        return self.ask(begin=request)


@pytest.fixture(scope="module")
def policy() -> Iterator[tuple[Process, str]]:
    with process("-m", "embodied", "serve", "policies.hold", "--address", "127.0.0.1:0") as started:
        yield started, started.line().split(" on ")[-1]
        assert started.lives


@pytest.fixture
def session(policy: tuple[Process, str]) -> Iterator[Session]:
    with grpc.insecure_channel(policy[1], options=OPTIONS) as channel:
        session = Session(policy[1], channel)
        assert session.begin().WhichOneof("reply") == "begun"
        yield session
        session.call.cancel()


def jpeg(height: int = SIZE, width: int = SIZE, **more: Any) -> types.Frame:
    data = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    message = types.Jpeg(height=SIZE, width=SIZE, data=data)
    message.MergeFrom(types.Jpeg(**more))
    return types.Frame(camera="front", jpeg=message)


def raw(shape: tuple[int, ...] = (SIZE, SIZE, 3), size: int = SIZE * SIZE * 3, camera: str = "front") -> types.Frame:
    return types.Frame(camera=camera, raw=types.Array(dtype=types.DTYPE_UINT8, shape=shape, data=bytes(size)))


def bomb() -> bytes:
    """Return a JPEG whose head claims 65 500 x 65 500 pixels: 13 GB."""
    data = bytearray(jpeg().jpeg.data)
    head = data.index(b"\xff\xc0")
    data[head + 5 : head + 9] = (65_500).to_bytes(2) * 2
    return bytes(data)


WHOLE = jpeg().jpeg.data
FRAMES = {
    "a truncated JPEG": [jpeg(data=WHOLE[: len(WHOLE) // 2])],
    "a truncated JPEG with its end": [jpeg(data=WHOLE[: len(WHOLE) // 2] + b"\xff\xd9")],
    "no JPEG": [jpeg(data=b"GIF89a" + bytes(500))],
    "a JPEG of another size": [jpeg(height=SIZE * 2)],
    "a JPEG that claims 13 GB": [jpeg(data=bomb())],
    "a message that claims 13 GB": [jpeg(height=SIZE), jpeg()],
    "a frame of another shape": [raw((SIZE * 2, SIZE, 3), SIZE * SIZE * 6)],
    "a grey frame": [raw((SIZE, SIZE), SIZE * SIZE)],
    "a frame with less data than its shape": [raw(size=100)],
    "a frame that claims 2^62 bytes": [raw((2**31, 2**31, 3), 100)],
    "60 MB of frame": [raw((20_000_000, 1, 3), 60_000_000)],
    "an unknown camera": [raw(camera="back")],
    "the same camera twice": [raw(), raw()],
    "shared memory that was never agreed on": [types.Frame(camera="front", shared={"height": SIZE, "width": SIZE})],
    "no content": [types.Frame(camera="front")],
}
FINE = types.Observation(state=types.Array(dtype=4, shape=[2], data=bytes(8)), instruction="hold")


@pytest.mark.parametrize("what", FRAMES)
def test_a_malformed_frame_is_refused_and_the_session_goes_on(
    what: str, session: Session, policy: tuple[Process, str], table: Table
) -> None:
    before_mb = policy[0].peak_mb
    reply = session.ask(observation=FINE, frames=FRAMES[what])
    assert reply.WhichOneof("reply") == "error", reply
    assert reply.error.message and "Traceback" not in reply.error.message
    assert session.ask(observation=FINE, frames=[jpeg()]).WhichOneof("reply") == "actions"
    table.add("malformed frame", "memory gained, MB", [policy[0].peak_mb - before_mb], allowed=GROWTH_MB)


@pytest.mark.parametrize("state", [[np.nan, 0.0], [0.0, np.inf], [0.0], [0.0] * 3])
def test_a_state_that_is_none_is_refused(state: list[float], session: Session) -> None:
    array = types.Array(dtype=4, shape=[len(state)], data=np.array(state, "<f4").tobytes())
    assert session.ask(observation=types.Observation(state=array)).WhichOneof("reply") == "error"
    assert session.ask(observation=FINE).WhichOneof("reply") == "actions"


def test_an_endless_stream_of_frames_without_a_listener_does_not_fill_the_memory(
    session: Session, policy: tuple[Process, str], table: Table
) -> None:
    before_mb = policy[0].peak_mb
    request = policy_pb2.ActRequest(observation=FINE, frames=[raw((7_000_000, 1, 3), 21_000_000)]).SerializeToString()
    for _ in range(40):
        session.send_bytes(request)
    for _ in range(40):
        next(session.call)
    table.add("endless frames", "memory gained, MB", [policy[0].peak_mb - before_mb], allowed=GROWTH_MB)

"""Checks of requests that are none: each is answered with an error, the session goes on, and the server lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import grpc
import numpy as np

from embodied.bridge.address import MAX_MESSAGE_BYTES
from embodied.bridge.arrays import encode_array
from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.client import Ending, decode
from embodied.bridge.conformance.describe import describe
from embodied.bridge.conformance.moves import require_still
from embodied.bridge.conformance.session import Session, step_request, told
from embodied.bridge.conformance.verdict import NonconformityError, require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

# What servers in other languages, whose library parses before they do, can do with bytes that are no message.
STREAM_ENDED = (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.CANCELLED)


def garbage_is_refused(bench: Bench) -> str:
    """Bytes that are no message are answered with an error; a library that parses them first may end the stream."""
    return _bytes_are_refused(bench, lambda _: b"\xff" * 40, "40 bytes of 0xff")


def a_truncated_request_is_refused(bench: Bench) -> str:
    """A request cut in the middle is answered as garbage is, and nothing of it is carried out."""

    def cut(session: Session) -> bytes:
        whole = step_request(np.tile(session.hold, (4, 1))).SerializeToString()
        return whole[: len(whole) // 2]

    return _bytes_are_refused(bench, cut, "half a step")


def an_empty_request_is_refused(bench: Bench) -> None:
    """A request of no kind, or of no bytes at all, is answered with an error, and the session goes on."""
    session = bench.open()
    for what, request in {"a request of no bytes": b"", "a request of no kind": b"\x08\x07"}.items():
        session.refused(request, types.ERROR_CODE_PROTOCOL, what)
    _goes_on(session)


def an_array_that_is_none_is_refused(bench: Bench) -> None:
    """An array of the wrong size, of no type, of too many dimensions or of absurd ones is refused; nothing moves."""
    session = bench.begin()
    count = len(session.hold)
    pose = encode_array(session.hold[None])
    arrays = {
        "less data than its shape says": types.Array(dtype=pose.dtype, shape=[2, count], data=pose.data),
        "more data than its shape says": types.Array(dtype=pose.dtype, shape=[1, count], data=pose.data * 2),
        "no dtype": types.Array(shape=[1, count], data=pose.data),
        "an unknown dtype": types.Array(dtype=cast(types.DType, 99), shape=[1, count], data=pose.data),
        "100 dimensions": types.Array(dtype=pose.dtype, shape=[1] * 99 + [count], data=pose.data),
        "more numbers than any memory holds": types.Array(dtype=pose.dtype, shape=[2**31, 2**31, 2**31]),
        "no shape": types.Array(dtype=pose.dtype, data=pose.data),
    }
    for what, array in arrays.items():
        request = pb.ControlRequest(step=pb.StepRequest(actions=types.Actions(poses=array)))
        session.refused(request, None, f"poses with {what}")
        mixed = types.Actions(mixed=[types.Action(pose=array)])
        session.refused(pb.ControlRequest(step=pb.StepRequest(actions=mixed)), None, f"a pose with {what}")
    require_still(session, session.step(session.hold), "after arrays that are none")


def a_message_over_the_cap_is_refused(bench: Bench) -> None:
    """A message of more than 64 MiB is refused, the server lives, and the robot is free for the next operator."""
    session = bench.stream()
    session.send(bench.request(client="x" * (MAX_MESSAGE_BYTES + 1)))
    arrived = session.stream.receive(bench.server.timeout_s)
    if isinstance(arrived, bytes):
        reply = decode(pb.ControlReply, arrived)
        require(reply.WhichOneof("reply") == "error", "64 MiB in one message to be refused", told(reply))
    require(arrived is not None, "64 MiB in one message to be refused", "no answer")
    describe(bench)
    session.cut()
    session.stream.wait(bench.server.timeout_s)
    bench.wait_until_free()
    bench.open("after 64 MiB")


CHECKS = (
    garbage_is_refused,
    a_truncated_request_is_refused,
    an_empty_request_is_refused,
    an_array_that_is_none_is_refused,
    a_message_over_the_cap_is_refused,
)


def _bytes_are_refused(bench: Bench, make: Callable[[Session], bytes], what: str) -> str:
    session = bench.begin() if bench.motion else bench.open()
    session.stream.send(make(session))
    arrived = session.stream.receive(session.timeout_s)
    if isinstance(arrived, Ending) and arrived.code in STREAM_ENDED:
        describe(bench)
        bench.wait_until_free()
        bench.open("the next")
        return f"the stream was ended with {arrived}; an error in reply would have kept the session"
    if not isinstance(arrived, bytes):
        raise NonconformityError(f"expected an error in answer to {what}; found {arrived or 'no answer'}")
    reply = decode(pb.ControlReply, arrived)
    session.stream.heard(reply.error.message)
    require(reply.WhichOneof("reply") == "error", f"an error in answer to {what}", told(reply))
    _goes_on(session)
    return ""


def _goes_on(session: Session) -> None:
    """Raise NonconformityError unless the session answers what comes next."""
    session.refused(pb.ControlRequest(sequence=1), types.ERROR_CODE_PROTOCOL, "the request after one that was refused")

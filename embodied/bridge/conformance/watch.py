"""Checks of Watch: anyone sees what the operator sees, without a lease, and slows nobody down."""

from __future__ import annotations

import time
from collections.abc import Callable

from embodied.bridge.conformance.bench import MARGIN_S, Bench
from embodied.bridge.conformance.client import Ending, Stream, decode
from embodied.bridge.conformance.session import Session, observation_of
from embodied.bridge.conformance.verdict import NonconformityError, require
from embodied.v1 import robot_pb2 as pb

STEPS = 30  # enough that their frames fill what buffers lie between server and watcher; fewer where steps take time
LONGEST_S = 3.0
SLOWER = 5.0  # times: a watcher costs its encoding, never a wait


def a_watcher_is_told_the_status_first(bench: Bench) -> None:
    """The first reply to Watch is the status, and it comes again when the lease or the emergency stop changes."""
    stream = bench.watch(frames=False)
    first = _next(bench, stream, lambda reply: True, "a first reply")
    require(first.HasField("status"), "the status as the first reply", first.WhichOneof("reply"))
    require(not first.status.holder, "a status without a holder", repr(first.status.holder))
    session = bench.open("the watched")
    holder = f"{bench.me} the watched"
    _next(bench, stream, lambda reply: reply.status.holder == holder, "the status that the robot is held")
    bench.press()
    _next(bench, stream, lambda reply: reply.status.stopped, "the status that the emergency stop is latched")
    bench.release()
    _next(bench, stream, lambda reply: _is_status(reply) and not reply.status.stopped, "the status that it is released")
    session.end()
    _next(bench, stream, lambda reply: _is_status(reply) and not reply.status.holder, "the status that it is free")


def a_watcher_sees_what_the_operator_sees(bench: Bench) -> None:
    """A watcher is shown the operator's reset and steps as they were answered, with raw frames if it asked for them."""
    session = bench.begin()
    for frames in (True, False):
        stream = bench.watch(frames=frames)
        _next(bench, stream, _is_status, "a first status")
        for what, reply in (("reset", session.reset()), ("step", session.step(session.hold, frames=True))):
            seen = _next(bench, stream, _shows(reply), f"the operator's {what}")
            found = sorted(frame.camera for frame in seen.frames if frame.HasField("raw"))
            wanted = sorted(camera.name for camera in bench.spec.cameras) if frames else []
            require(found == wanted, f"raw frames of {wanted} with the {what}", found)
            require(len(seen.frames) == len(wanted), f"{len(wanted)} frames", len(seen.frames))


def a_watcher_that_never_reads_delays_nobody(bench: Bench) -> str:
    """The operator's steps take no longer while somebody watches who does not read."""
    session = bench.begin()
    count = max(1, min(STEPS, round(LONGEST_S * bench.spec.control_hz))) if bench.spec.realtime else STEPS
    alone_s = _time(session, count)
    call = bench.server.unread_watch(pb.WatchRequest(client=bench.me, frames=True))
    try:
        watched_s = _time(session, count)
    finally:
        call.cancel()
    bound_s = SLOWER * alone_s + MARGIN_S
    require(watched_s <= bound_s, f"{count} steps within {bound_s:.2g} s while watched", f"{watched_s:.2g} s")
    return f"{count} steps took {alone_s:.2g} s alone, {watched_s:.2g} s watched by one who does not read"


CHECKS = (
    a_watcher_is_told_the_status_first,
    a_watcher_sees_what_the_operator_sees,
    a_watcher_that_never_reads_delays_nobody,
)


def _next(bench: Bench, stream: Stream, is_it: Callable[[pb.WatchReply], bool], what: str) -> pb.WatchReply:
    """Return the next reply that is it; a watcher may be shown others before."""
    deadline = time.monotonic() + bench.server.timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        arrived = stream.receive(left_s)
        if isinstance(arrived, Ending):
            raise NonconformityError(f"expected a watcher to be shown {what}; found the stream ended with {arrived}")
        if arrived is not None:
            reply: pb.WatchReply = decode(pb.WatchReply, arrived)
            if is_it(reply):
                return reply
    raise NonconformityError(
        f"expected a watcher to be shown {what}; found nothing of it in {bench.server.timeout_s:g} s"
    )


def _is_status(reply: pb.WatchReply) -> bool:
    return reply.HasField("status")


def _shows(reply: pb.ControlReply) -> Callable[[pb.WatchReply], bool]:
    kind, wanted = reply.WhichOneof("reply"), observation_of(reply)

    def shows(seen: pb.WatchReply) -> bool:
        if seen.WhichOneof("reply") != kind:
            return False
        found = seen.step.observation if kind == "step" else seen.observation
        return found.time_ns == wanted.time_ns and found.state.data == wanted.state.data

    return shows


def _time(session: Session, count: int) -> float:
    """Return how long a number of steps with frames take."""
    started = time.monotonic()
    for _ in range(count):
        session.step(session.hold, frames=True)
    return time.monotonic() - started

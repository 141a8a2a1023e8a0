"""Checks of the lease: one operator, who is named, can be taken over from, and lets go by ending the stream."""

from __future__ import annotations

import time

from embodied.bridge.conformance.bench import MARGIN_S, Bench
from embodied.bridge.conformance.client import Ending, decode
from embodied.bridge.conformance.session import step_request, wait_until
from embodied.bridge.conformance.verdict import NonconformityError, require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

ROUNDS = 20


def status_tells_who_holds_the_robot(bench: Bench) -> None:
    """Status names the holder and for how long, and nobody before and after."""
    before = bench.status()
    require(not before.holder, "nobody to hold the robot", before.holder)
    session = bench.open("the holder")
    held = bench.status()
    require(held.holder == f"{bench.me} the holder", f"{bench.me} the holder as holder", repr(held.holder))
    require(held.sessions == before.sessions + 1, f"{before.sessions + 1} sessions counted", held.sessions)
    longer = wait_until(lambda: bench.status().held_s > held.held_s, MARGIN_S)
    require(longer, f"held_s to grow from {held.held_s:g}", bench.status().held_s)
    session.end()
    require(bench.wait_until_free(), "nobody to hold the robot after its stream ended", bench.status().holder)


def status_counts_what_was_refused(bench: Bench) -> None:
    """Status counts every request that is answered with an error."""
    before = bench.status().refused_requests
    session = bench.open()
    session.refused(b"", types.ERROR_CODE_PROTOCOL, "a request of no bytes")
    found = bench.status().refused_requests
    require(found == before + 1, f"{before + 1} refused requests counted", found)


def a_second_operator_is_refused(bench: Bench) -> None:
    """A second operator is refused with FAILED_PRECONDITION, the holder's name and since when; the first goes on."""
    first = bench.open("the first")
    refusal = bench.refused_open(bench.stream(bench.another()), bench.request("the second"))
    name = f"{bench.me} the first"
    require(name in refusal.details, f"the holder's name {name!r} in the refusal", repr(refusal.details))
    since = any(c.isdigit() for c in refusal.details.replace(name, ""))
    require(since, "since when the robot is held in the refusal", repr(refusal.details))
    first.refused(b"", types.ERROR_CODE_PROTOCOL, "a request of no bytes")  # it is still heard
    if bench.motion:
        first.reset()


def a_takeover_ends_the_first_session(bench: Bench) -> None:
    """A takeover ends the holder's stream with ABORTED, and the new operator must reset before a step."""
    first = bench.begin("the first")
    second = bench.open("the second", bench.another(), takeover=True)
    ending = first.ended_by_server(MARGIN_S, "another took the robot over")
    require(ending.code.name == "ABORTED", "the first stream to end with ABORTED", ending)
    holder = bench.status().holder
    require(holder == f"{bench.me} the second", "the second operator to hold the robot", repr(holder))
    second.refused(step_request(first.hold), types.ERROR_CODE_PROTOCOL, "a step of the new operator before a reset")
    second.reset()
    second.step(second.hold)


def a_takeover_of_a_free_robot_is_an_open(bench: Bench) -> None:
    """An operator who asks to take over a robot that nobody holds gets it."""
    bench.open("who takes over nobody", takeover=True)


def the_end_of_the_stream_frees_the_robot(bench: Bench) -> str:
    """The robot is free when its operator ends the stream, and when the operator is cut off."""
    took_s = []
    for how in ("ended", "cut off"):
        session = bench.open(how)
        started = time.monotonic()
        if how == "ended":
            session.end()
        else:
            session.cut()
        bound_s = bench.spec.watchdog_s + MARGIN_S
        require(
            bench.wait_until_free(), f"a free robot {bound_s:g} s after its stream was {how}", bench.status().holder
        )
        took_s.append(time.monotonic() - started)
        bench.open("the next").end()
        bench.wait_until_free()
    return f"free after {1e3 * took_s[0]:.0f} ms when ended, {1e3 * took_s[1]:.0f} ms when cut off"


def of_two_who_race_one_wins(bench: Bench) -> None:
    """Of two operators who open at the same time exactly one gets the robot, and the other is told who has it."""
    servers = bench.another(), bench.another()
    for server in servers:
        server.connect()
    for turn in range(ROUNDS):
        sessions = [bench.stream(server) for server in servers]
        for name, session in zip(("one", "other"), sessions, strict=True):
            session.send(bench.request(name))
        arrived = [session.stream.receive(bench.server.timeout_s) for session in sessions]
        won = [_was_opened(reply) for reply in arrived]
        require(won.count(True) == 1, f"one winner in round {turn + 1} of {ROUNDS}", won.count(True))
        (lost,) = (reply for reply in arrived if not _was_opened(reply))
        code = lost.code.name if isinstance(lost, Ending) else "no end of the stream"
        require(code == "FAILED_PRECONDITION", "FAILED_PRECONDITION for the loser", code)
        sessions[won.index(True)].end()
        if not bench.wait_until_free():
            raise NonconformityError(f"expected a free robot after round {turn + 1}; found {bench.status().holder}")


CHECKS = (
    status_tells_who_holds_the_robot,
    status_counts_what_was_refused,
    a_second_operator_is_refused,
    a_takeover_ends_the_first_session,
    a_takeover_of_a_free_robot_is_an_open,
    the_end_of_the_stream_frees_the_robot,
    of_two_who_race_one_wins,
)


def _was_opened(reply: bytes | Ending | None) -> bool:
    return isinstance(reply, bytes) and bool(decode(pb.ControlReply, reply).HasField("opened"))

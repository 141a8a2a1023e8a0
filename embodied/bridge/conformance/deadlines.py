"""Checks of deadlines: actions that come too late, by the server's own clock, are dropped, counted and reported."""

from __future__ import annotations

import numpy as np

from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.moves import nudge, require_still
from embodied.bridge.conformance.session import observation_of, step_request, told
from embodied.bridge.conformance.verdict import require
from embodied.v1 import types_pb2 as types

CHUNK = 3
LONG_NS = 3_600 * 10**9


def late_actions_are_dropped(bench: Bench) -> None:
    """Actions later than within_ns after the reply that they answer are dropped and counted, and nothing moves."""
    session = bench.begin()
    before = bench.status().late_actions
    poses = np.tile(nudge(session), (CHUNK, 1))
    session.send(step_request(poses, answers_ns=session.last.server_ns, within_ns=1))
    reply = session.receive("a late step")
    if reply.WhichOneof("reply") == "step":
        counts = (reply.step.executed, reply.step.dropped)
        require(counts == (0, CHUNK), f"executed 0, dropped {CHUNK} of a late chunk", told(reply))
        require_still(session, reply, "after a late chunk")
    else:
        require(reply.error.code == types.ERROR_CODE_LATE, "a step or an error LATE for a late chunk", told(reply))
    found = bench.status().late_actions
    require(found == before + CHUNK, f"{before + CHUNK} late actions counted", found)
    require_still(session, session.step(session.hold), "in the step after a late chunk")


def late_actions_take_no_time(bench: Bench) -> None:
    """Where time is simulated, late actions do not move it on."""
    bench.needs_simulation("time that stands still")
    session = bench.begin()
    expected = observation_of(session.step(session.hold)).time_ns
    session.reset()
    session.send(step_request(nudge(session), answers_ns=session.last.server_ns, within_ns=1))
    session.receive("a late step")
    found = observation_of(session.step(session.hold)).time_ns
    require(found == expected, f"time_ns {expected} in the step after a late one", found)


def actions_in_time_are_carried_out(bench: Bench) -> None:
    """Actions that answer the latest reply within the hour are carried out, and none counts as late."""
    session = bench.begin()
    before = bench.status().late_actions
    poses = np.tile(session.hold, (CHUNK, 1))
    reply = session.step(poses, answers_ns=session.last.server_ns, within_ns=LONG_NS)
    require(reply.step.executed >= 1 and not reply.step.dropped, "a chunk in time to be carried out", told(reply))
    found = bench.status().late_actions
    require(found == before, f"{before} late actions counted", found)


def a_step_without_a_deadline_is_never_late(bench: Bench) -> None:
    """within_ns 0 sets no deadline, whatever answers_ns is."""
    session = bench.begin()
    reply = session.step(session.hold, answers_ns=1)
    require(reply.step.executed == 1, "a step without a deadline to be carried out", told(reply))


CHECKS = (
    late_actions_are_dropped,
    late_actions_take_no_time,
    actions_in_time_are_carried_out,
    a_step_without_a_deadline_is_never_late,
)

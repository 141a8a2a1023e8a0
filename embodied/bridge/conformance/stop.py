"""Checks of Stop and the emergency stop, which need no lease and wait for nothing; only the latter latches."""

from __future__ import annotations

import time

import numpy as np

from embodied.bridge.conformance.bench import MARGIN_S, Bench
from embodied.bridge.conformance.moves import nudge, require_still
from embodied.bridge.conformance.session import SEED, step_request, told
from embodied.bridge.conformance.verdict import NotApplicableError, require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

MOTION_S = 3.0  # of holding, that a stop cuts short
BEFORE_STOP_S = 0.3


def stop_needs_no_lease(bench: Bench) -> None:
    """Anyone may call Stop, whether the robot is held or not, and its operator may go on."""
    bench.server.ask("Stop", pb.StopRequest())
    session = bench.begin()
    bench.another().ask("Stop", pb.StopRequest())
    reply = session.step(session.hold)
    require(reply.step.executed == 1, "a step after Stop to be carried out", told(reply))
    require(not bench.status().stopped, "no latch after Stop", "that the emergency stop is latched")


def the_emergency_stop_latches(bench: Bench) -> None:
    """EmergencyStop needs no lease, latches, may come twice, and its answer and Status tell who pressed it first."""
    pressed = bench.press("the first")
    again = bench.press("the second")
    for what, status in {"EmergencyStop": pressed, "a second EmergencyStop": again, "Status": bench.status()}.items():
        require(status.stopped, f"stopped in the answer to {what}", "that it is not")
        wanted = f"{bench.me} the first"
        require(status.stopped_by == wanted, f"stopped_by {wanted!r} in {what}", repr(status.stopped_by))
    released = bench.release()
    require(not released.stopped and not bench.status().stopped, "no latch after the release", "that it is latched")
    bench.release()  # which may come twice too


def a_latched_robot_refuses_to_move(bench: Bench) -> None:
    """While the emergency stop is latched, steps and resets are refused with STOPPED; after its release not."""
    session = bench.begin()
    bench.press()
    for what, request in {
        "a step": step_request(nudge(session)),
        "a reset": pb.ControlRequest(reset=pb.Reset(seed=SEED, task=bench.spec.tasks[0])),
        "a second step": step_request(session.hold),
    }.items():
        session.refused(request, types.ERROR_CODE_STOPPED, f"{what} while the emergency stop is latched")
    bench.release()
    session.reset()
    require_still(session, session.step(session.hold), "after the emergency stop")


def a_latch_outlives_sessions(bench: Bench) -> None:
    """A new session, by takeover too, does not release the emergency stop."""
    bench.needs_motion()
    bench.press()
    for name, takeover in (("the first", False), ("the second", True)):
        session = bench.open(name, takeover=takeover)
        reset = pb.ControlRequest(reset=pb.Reset(seed=SEED, task=bench.spec.tasks[0]))
        session.refused(reset, types.ERROR_CODE_STOPPED, "a reset of a session opened while the stop is latched")
    require(bench.status().stopped, "the emergency stop to be latched still", "that it is not")


def the_emergency_stop_cuts_a_motion_short(bench: Bench) -> str:
    """Where time is real, EmergencyStop is answered and ends a chunk under way at once; what was left is dropped."""
    if not bench.spec.realtime:
        raise NotApplicableError("the robot is simulated: its motions take no time")
    session = bench.begin()
    count = max(2, round(MOTION_S * bench.spec.control_hz))
    session.send(step_request(np.tile(session.hold, (count, 1))))
    time.sleep(BEFORE_STOP_S)
    started = time.monotonic()
    bench.press()
    pressed_s = time.monotonic() - started
    reply = session.receive("a chunk that is stopped")
    took_s = time.monotonic() - started
    require(pressed_s < MARGIN_S, f"an answer to EmergencyStop within {MARGIN_S:g} s", f"one after {pressed_s:.2g} s")
    require(took_s < MARGIN_S, f"the end of the motion within {MARGIN_S:g} s of the stop", f"one after {took_s:.2g} s")
    if reply.WhichOneof("reply") == "step":
        total, dropped = reply.step.executed + reply.step.dropped, reply.step.dropped
        counts = dropped > 0 and total == count
        require(counts, f"some of the {count} actions dropped, and the others executed", told(reply))
    else:
        require(reply.error.code == types.ERROR_CODE_STOPPED, "a step or an error STOPPED", told(reply))
    return f"the motion ended {1e3 * took_s:.0f} ms after the stop was pressed"


CHECKS = (
    stop_needs_no_lease,
    the_emergency_stop_latches,
    a_latched_robot_refuses_to_move,
    a_latch_outlives_sessions,
    the_emergency_stop_cuts_a_motion_short,
)

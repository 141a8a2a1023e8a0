"""Checks of the limits: a command beyond range, velocity or acceleration is limited, reported by field, and no more."""

from __future__ import annotations

import numpy as np

from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.moves import STILL_SHARE, followed
from embodied.bridge.conformance.session import Session, Vector, state_of, told
from embodied.bridge.conformance.verdict import NotApplicableError, require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

BEYOND_SHARE = 0.1  # of a field's range
GENTLE_SHARE = 0.05  # of a field's range: how far a real robot may be sent
ROUNDING_SHARE = 1e-6  # of a field's range: bounds are float64, commands float32
BACK_S = 0.5  # for the way back
TOO_FAST = 10.0  # times what the limit allows


def a_command_out_of_range_is_limited(bench: Bench) -> str:
    """A number beyond its field's range is brought within it and reported with what was requested and applied."""
    bench.needs_motion()
    session = bench.begin()
    tested = [index for index in range(len(bench.spec.action)) if _is_gentle(bench, index)]
    for index in tested:
        field = bench.spec.action[index]
        span = field.high - field.low
        for wanted in (field.high + BEYOND_SHARE * span, field.low - BEYOND_SHARE * span):
            values = session.hold
            values[index] = wanted
            reply = _send(bench, session, values)
            found = [i for i in reply.step.interventions if i.kind == "position" and i.field == field.name]
            what = f"{wanted:.4g} in {field.name!r}"
            require(bool(found), f"an intervention position of {field.name!r} after {what}", told(reply))
            within = field.low - ROUNDING_SHARE * span <= found[0].applied <= field.high + ROUNDING_SHARE * span
            require(within, f"{what} to be applied within [{field.low:.4g}, {field.high:.4g}]", told(reply))
            require(found[0].requested == values[index], f"{what} to be reported as requested", told(reply))
    return _told_of(bench, tested)


def a_step_command_keeps_to_the_velocity(bench: Bench) -> str:
    """A command further away than its field's velocity allows in a control period is limited and reported."""
    return _keeps_to(bench, "velocity")


def a_step_command_keeps_to_the_acceleration(bench: Bench) -> str:
    """A command further away than acceleration from rest allows in a control period is limited and reported."""
    return _keeps_to(bench, "acceleration")


CHECKS = (
    a_command_out_of_range_is_limited,
    a_step_command_keeps_to_the_velocity,
    a_step_command_keeps_to_the_acceleration,
)


def _keeps_to(bench: Bench, kind: str) -> str:
    bench.needs_motion()
    if not getattr(bench.spec.limits, kind):
        raise NotApplicableError(f"the robot declares no limit of {kind}")
    session = bench.begin()
    tested = []
    for index, field in enumerate(bench.spec.action):
        way = _way(bench, session, index, kind)
        if way is None:
            continue
        tested.append(index)
        values = session.hold
        values[index] += way
        reply = _send(bench, session, values)
        kinds = {i.kind for i in reply.step.interventions if i.field == field.name or i.kind == "workspace"}
        what = f"{field.name!r} is sent {way:+.3g} {field.unit} in one control period"
        require(
            bool(kinds & {"velocity", "acceleration", "workspace"}),
            f"an intervention velocity or acceleration of {field.name!r} where {what}",
            told(reply),
        )
        if not bench.spec.realtime:  # a real one is back by then
            _require_no_further(bench, session, reply, index, kind, what)
    if not tested:
        raise NotApplicableError(f"no field can be sent gently, and within its range, beyond its limit of {kind}")
    return _told_of(bench, tested)


def _require_no_further(
    bench: Bench, session: Session, reply: pb.ControlReply, index: int, kind: str, what: str
) -> None:
    field = bench.spec.action[index]
    most = _allowed(bench, index, kind) + STILL_SHARE * (field.high - field.low)
    for place, shown in followed(bench.spec):
        if shown.name == field.name:
            moved = abs(float(state_of(reply, bench.spec)[place]) - float(session.start[place]))
            require(moved <= most, f"{field.name!r} to move by at most {most:.3g} where {what}", f"{moved:.3g}")


def _way(bench: Bench, session: Session, index: int, kind: str) -> float | None:
    """Return how far to send a field so that this limit alone binds, None where there is no room for it."""
    field = bench.spec.action[index]
    if field.mode != types.Field.MODE_ABSOLUTE or not _is_gentle(bench, index):
        return None
    allowed = _allowed(bench, index, kind)
    hold = float(session.hold[index])
    up, down = field.high - hold, hold - field.low
    room = max(up, down)
    if kind == "acceleration" and bench.spec.limits.velocity:
        room = min(room, _allowed(bench, index, "velocity"))
    if bench.spec.realtime:
        room = min(room, allowed + GENTLE_SHARE * (field.high - field.low))
    if room < 1.2 * allowed:
        return None
    return float(np.copysign(min(TOO_FAST * allowed, room), 1.0 if up >= down else -1.0))


def _allowed(bench: Bench, index: int, kind: str) -> float:
    """Return how far a limit lets a field go from rest in a control period T: v T, or at most a T^2."""
    period_s = 1 / bench.spec.control_hz
    limit: float = getattr(bench.spec.limits, kind)[index]
    return limit * (period_s if kind == "velocity" else period_s**2)


def _is_gentle(bench: Bench, index: int) -> bool:
    """Return whether a field goes no further in a period than a real robot may be sent, whatever is asked of it."""
    if not bench.spec.realtime:
        return True
    field, velocity = bench.spec.action[index], bench.spec.limits.velocity
    absolute = field.mode == types.Field.MODE_ABSOLUTE
    span = field.high - field.low
    return absolute and bool(velocity) and _allowed(bench, index, "velocity") <= GENTLE_SHARE * span


def _send(bench: Bench, session: Session, values: Vector) -> pb.ControlReply:
    """Carry out values (n,) from where an episode begins; a real robot is brought back at once, in the same chunk."""
    if not bench.spec.realtime:
        session.reset()
        return session.step(values)
    back = np.tile(session.hold, (max(2, round(bench.spec.control_hz * BACK_S)), 1))
    return session.step(np.vstack([values, back]))


def _told_of(bench: Bench, tested: list[int]) -> str:
    if not tested:
        raise NotApplicableError("no limit keeps a field to 5 % of its range a period; a real robot is sent no further")
    left = [f.name for index, f in enumerate(bench.spec.action) if index not in tested]
    return f"not tried, since it could not be done gently or within range: {left}" if left else ""

"""Gentle moves, and whether a robot that should have kept still did."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from embodied.bridge.conformance.session import Session, Vector, bounds, state_of
from embodied.bridge.conformance.verdict import require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

STILL_SHARE = 0.02  # of a field's range: what a robot that holds may sag or tremble
NUDGE_SHARE = 0.1  # of a field's range: what cannot be taken for trembling


def nudge(session: Session) -> Vector:
    """Return an action (n,) that a robot which carries it out shows; a real robot's is the one that holds."""
    if session.spec.realtime:
        return session.hold
    low, high = bounds(session.spec)
    towards = np.where(session.hold < (low + high) / 2, 1.0, -1.0)
    moved: Vector = (session.hold + towards * NUDGE_SHARE * (high - low)).astype(np.float32)
    return moved


def require_still(session: Session, reply: pb.ControlReply, what: str) -> None:
    """Raise NonconformityError if any field that an action sets is away from where the latest reset was."""
    state = state_of(reply, session.spec)
    for index, field in followed(session.spec):
        moved = abs(float(state[index]) - float(session.start[index]))
        allowed = STILL_SHARE * (field.high - field.low)
        wanted = f"{field.name!r} to stay within {allowed:.3g} {field.unit} {what}"
        require(moved <= allowed, wanted, f"that it moved by {moved:.3g}")


def followed(spec: types.RobotSpec) -> Iterator[tuple[int, types.Field]]:
    """Yield the index in the state and the field of every number that an absolute action sets."""
    places = {f.name: index for index, f in enumerate(spec.state)}
    for field in spec.action:
        if field.mode == types.Field.MODE_ABSOLUTE and field.name in places:
            yield places[field.name], field

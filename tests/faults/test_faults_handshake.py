"""Operators made for another robot, or another version: refused with every difference, and nothing moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embodied.bridge.codec import encode_spec
from embodied.types import Field, RobotSpec
from embodied.v1 import robot_pb2 as pb
from tests.faults.processes import Host
from tests.faults.wire import FORBIDDEN, status, step
from tests.live_robot import SPEC
from tests.raw_operator import RawOperator

REVERSED = replace(SPEC, state=SPEC.state[::-1], action=SPEC.action[::-1], limits=SPEC.limits)
BLIND = replace(SPEC, cameras=())
DEGREES = replace(SPEC, action=(Field("pan", "deg", -57.3, 57.3), SPEC.action[1]))


@pytest.mark.parametrize(
    ("protocol", "expected", "words"),
    [
        (1, SPEC, ["the client speaks version 1 of the protocol, the robot 2"]),
        (99, None, ["the client speaks version 99 of the protocol, the robot 2"]),
        (2, REVERSED, ["state: expected ['forbidden', 'pan']", "action: expected ['forbidden', 'pan']"]),
        (2, BLIND, ["cameras: expected [] in this order, found ['front']"]),
        (2, DEGREES, ["action.pan.unit: expected deg, found rad", "action.pan.low: expected -57.3, found -1.0"]),
        (1, replace(BLIND, control_hz=50.0), ["version 1", "control_hz: expected 50.0, found 10.0", "cameras"]),
    ],
)
def test_whoever_expects_another_robot_is_refused_with_every_difference(
    protocol: int, expected: RobotSpec | None, words: list[str], live: Host
) -> None:
    said: dict[str, Any] = {} if expected is None else {"expected": encode_spec(expected)}
    with RawOperator(live.address) as operator:
        reply = operator.ask(open=pb.Open(protocol=protocol, client="stranger", **said))
        assert all(word in reply.error.message for word in words), reply
        assert "Traceback" not in reply.error.message
        assert not status(live.address).holder
        assert "must be open" in operator.ask(step=step(FORBIDDEN)).error.message
        assert operator.open(expected=encode_spec(SPEC)).WhichOneof("reply") == "opened"  # and the stream goes on

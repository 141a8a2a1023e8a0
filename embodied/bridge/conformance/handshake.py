"""Checks of how a session is opened: by open first, of this version, to the robot that the client believes it is."""

from __future__ import annotations

from embodied.bridge.address import PROTOCOL
from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.describe import describe
from embodied.bridge.conformance.verdict import require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

NO_SUCH_TASK = "no task of the conformance suite"


def opens(bench: Bench) -> None:
    """An operator who opens a control stream to a free robot gets it."""
    bench.open()


def describes_itself_the_same_while_held(bench: Bench) -> None:
    """Describe gives the same answer every time, while somebody holds the robot too."""
    first = describe(bench)
    require(describe(bench) == first, "the same answer to a second Describe", "another")
    bench.open()
    require(describe(bench) == first, "the same answer to Describe while the robot is held", "another")


def wants_open_first(bench: Bench) -> None:
    """A request before open is refused, and the session can be opened after it."""
    session = bench.stream()
    # Its task is none, so that a server that takes it does not move; that it is refused for.
    before = pb.ControlRequest(reset=pb.Reset(task=NO_SUCH_TASK))
    session.refused(before, types.ERROR_CODE_PROTOCOL, "a reset before open")
    session.ask(bench.request(), "opened")


def refuses_another_version(bench: Bench) -> None:
    """A client of another version of the protocol is refused with both versions named."""
    for version in (PROTOCOL + 97, PROTOCOL - 1):
        session = bench.stream()
        said = session.refused(
            bench.request(protocol=version), types.ERROR_CODE_PROTOCOL, f"an open of version {version}"
        )
        for named in (version, PROTOCOL):
            require(str(named) in said, f"the refusal of version {version} to name version {named}", repr(said))
        session.cut()
        session.stream.wait(bench.server.timeout_s)
        bench.wait_until_free()


def takes_its_own_spec(bench: Bench) -> None:
    """A client that expects the robot that Describe showed is let in."""
    bench.open(expected=bench.spec)


def refuses_another_robot_with_every_difference(bench: Bench) -> None:
    """A client that expects another robot is refused with SPEC_MISMATCH, and the refusal lists every difference."""
    expected = types.RobotSpec()
    expected.CopyFrom(bench.spec)
    expected.name += "-of-another-make"
    expected.control_hz *= 2
    expected.action[0].high += 1
    expected.state[-1].unit += "s"
    wanted = [expected.name, "control_hz", expected.action[0].name, "high", expected.state[-1].name, "unit"]
    if expected.cameras:
        expected.cameras[0].height += 8
        wanted += [expected.cameras[0].name, "height"]
    said = bench.stream().refused(
        bench.request(expected=expected), types.ERROR_CODE_SPEC_MISMATCH, "an open that expects another robot"
    )
    missing = [word for word in wanted if word not in said]
    require(not missing, f"every difference in the refusal, with {wanted}", f"that {missing} is not in {said!r}")


def refuses_another_order_of_joints(bench: Bench) -> None:
    """A client that expects the action's fields in another order, or lacking one, is refused with SPEC_MISMATCH."""
    for fields in (bench.spec.action[::-1], bench.spec.action[:-1]):
        if list(fields) == list(bench.spec.action):
            continue  # one field has one order
        expected = types.RobotSpec()
        expected.CopyFrom(bench.spec)
        del expected.action[:]
        expected.action.extend(fields)
        expected.ClearField("limits")  # which are one a field, and may differ
        names = [f.name for f in fields]
        session = bench.stream()
        request = bench.request(expected=expected)
        session.refused(request, types.ERROR_CODE_SPEC_MISMATCH, f"an open that expects the action {names}")
        session.cut()
        session.stream.wait(bench.server.timeout_s)
        bench.wait_until_free()


CHECKS = (
    opens,
    describes_itself_the_same_while_held,
    wants_open_first,
    refuses_another_version,
    takes_its_own_spec,
    refuses_another_robot_with_every_difference,
    refuses_another_order_of_joints,
)

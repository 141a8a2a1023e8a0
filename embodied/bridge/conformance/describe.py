"""Checks of what a server says of itself: Describe, health, reflection. Nothing here can move the robot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2

from embodied.bridge.address import PROTOCOL
from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.client import SERVICE, Ending, decode
from embodied.bridge.conformance.reflection import differences, reflect
from embodied.bridge.conformance.verdict import require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types


def answers(bench: Bench) -> None:
    """Describe answers with the robot's spec."""
    reply = describe(bench)
    require(reply.HasField("spec"), "a spec in the answer to Describe", "none")
    bench.spec.CopyFrom(reply.spec)
    rates = {"control_hz": bench.spec.control_hz, "watchdog_s": bench.spec.watchdog_s}
    for name, value in rates.items():
        require(math.isfinite(value) and value > 0, f"{name} to be finite and above 0", value)
    for name in ("state", "action", "tasks"):
        require(bool(getattr(bench.spec, name)), f"at least one entry in {name}", "none")


def speaks_this_version(bench: Bench) -> None:
    """Describe names the version of the protocol that this suite tests."""
    found = describe(bench).protocol
    require(found == PROTOCOL, f"protocol {PROTOCOL}", found)


def names_are_unique(bench: Bench) -> None:
    """The robot, its cameras, state, action, skills and tasks have names, each unique in its list."""
    spec = describe(bench).spec
    require(bool(spec.name), "a name of the robot", "none")
    for group in ("cameras", "state", "action"):
        _require_unique(group, [entry.name for entry in getattr(spec, group)])
    for group in ("skills", "tasks"):
        _require_unique(group, getattr(spec, group))


def ranges_are_finite(bench: Bench) -> None:
    """Every field of state and action has finite low < high, and says whether it is absolute or delta."""
    spec = describe(bench).spec
    for group in ("state", "action"):
        for field in getattr(spec, group):
            what = f"{group} field {field.name!r}"
            finite = math.isfinite(field.low) and math.isfinite(field.high) and field.low < field.high
            require(finite, f"finite low < high of {what}", f"[{field.low}, {field.high}]")
            known = (types.Field.MODE_ABSOLUTE, types.Field.MODE_DELTA)
            require(field.mode in known, f"MODE_ABSOLUTE or MODE_DELTA of {what}", f"mode {field.mode}")


def cameras_have_pixels(bench: Bench) -> None:
    """Every camera has a height and a width above 0."""
    for camera in describe(bench).spec.cameras:
        size = f"{camera.height} x {camera.width}"
        require(camera.height > 0 and camera.width > 0, f"pixels of camera {camera.name!r}", size)


def limits_fit_the_action(bench: Bench) -> str:
    """Limits of velocity and acceleration are empty or one a field and above 0; a workspace has low < high."""
    spec = describe(bench).spec
    for name in ("velocity", "acceleration"):
        bounds = list(getattr(spec.limits, name))
        fits = len(bounds) in (0, len(spec.action))
        require(fits, f"no {name} limits or {len(spec.action)}, one a field of the action", len(bounds))
        require(all(math.isfinite(b) and b > 0 for b in bounds), f"{name} limits finite and above 0", bounds)
    if spec.limits.HasField("workspace"):
        low, high = list(spec.limits.workspace.low), list(spec.limits.workspace.high)
        box = len(low) == len(high) == 3 and all(a < b for a, b in zip(low, high, strict=True))
        require(box, "a workspace with low < high in x, y and z", f"{low} and {high}")
    bounded = [name for name in ("velocity", "acceleration") if getattr(spec.limits, name)]
    return (
        ""
        if len(bounded) == 2
        else "the robot declares no limit of "
        + ("velocity or acceleration" if not bounded else "acceleration" if bounded == ["velocity"] else "velocity")
    )


def tiers_fit_the_tasks(bench: Bench) -> None:
    """Tiers are none or one a task."""
    spec = describe(bench).spec
    require(len(spec.tiers) in (0, len(spec.tasks)), f"no tiers or {len(spec.tasks)}, one a task", list(spec.tiers))


def is_healthy(bench: Bench) -> None:
    """grpc.health.v1 says SERVING, of the server as a whole and of RobotService."""
    for service in ("", SERVICE.full_name):
        request = health_pb2.HealthCheckRequest(service=service)
        reply = bench.server.call("/grpc.health.v1.Health/Check", request.SerializeToString())
        what = f"SERVING of {service or 'the whole server'!r}"
        require(not isinstance(reply, Ending), what, reply)
        assert isinstance(reply, bytes)  # require has told otherwise
        status = decode(health_pb2.HealthCheckResponse, reply).status
        names = health_pb2.HealthCheckResponse.ServingStatus
        require(status == names.Value("SERVING"), what, names.Name(status) if status in names.values() else status)


def reflects_the_schema(bench: Bench) -> None:
    """Server reflection lists RobotService, with every method, field and number of this suite's schema."""
    services, files = reflect(bench.server)
    require(SERVICE.full_name in services, f"{SERVICE.full_name} among the reflected services", services)
    ours = [_file(descriptor) for descriptor in (types.DESCRIPTOR, pb.DESCRIPTOR)]
    found = differences(ours, files)
    require(not found, "the schema of proto/embodied/v1", "; ".join(found))


def refuses_an_unknown_method(bench: Bench) -> None:
    """A method that RobotService does not have is UNIMPLEMENTED."""
    reply = bench.server.call(f"/{SERVICE.full_name}/NoSuchMethod", b"")
    right = isinstance(reply, Ending) and reply.code == grpc.StatusCode.UNIMPLEMENTED
    require(right, "UNIMPLEMENTED", reply)


CHECKS = (
    answers,
    speaks_this_version,
    names_are_unique,
    ranges_are_finite,
    cameras_have_pixels,
    limits_fit_the_action,
    tiers_fit_the_tasks,
    is_healthy,
    reflects_the_schema,
    refuses_an_unknown_method,
)


def describe(bench: Bench) -> pb.DescribeRobotReply:
    """Return the answer to Describe."""
    reply: pb.DescribeRobotReply = bench.server.ask("Describe", pb.DescribeRobotRequest())
    return reply


def _require_unique(group: str, names: Iterable[str]) -> None:
    listed: Sequence[str] = list(names)
    require(all(listed), f"a name of every entry of {group}", listed)
    twice = sorted({name for name in listed if listed.count(name) > 1})
    require(not twice, f"every name of {group} once", f"{twice} more than once")


def _file(descriptor: object) -> descriptor_pb2.FileDescriptorProto:
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(proto)  # type: ignore[attr-defined]
    return proto

"""A robot's status to and from its message."""

from __future__ import annotations

from embodied.bridge.lease import RobotStatus
from embodied.v1 import robot_pb2 as pb


def encode_status(status: RobotStatus) -> pb.RobotStatus:
    """Return the message of a status."""
    return pb.RobotStatus(**vars(status))


def decode_status(message: pb.RobotStatus) -> RobotStatus:
    """Return the status."""
    return RobotStatus(**{field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields})

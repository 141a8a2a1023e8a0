"""Watches a robot that somebody else holds: its status, and what its operator is shown, the newest each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self, cast

import grpc

from embodied.bridge.codec import decode_observation, decode_step
from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials
from embodied.bridge.envelope import unpack
from embodied.bridge.lease import RobotStatus
from embodied.bridge.peer import Peer, my_name
from embodied.bridge.status import decode_status
from embodied.errors import ProtocolError
from embodied.types import Observation, Step
from embodied.v1 import robot_pb2 as pb

Sight = RobotStatus | Observation | Step


class RobotWatch:
    """An iterator over what is to be seen of a robot, the status first; a context manager that ends it."""

    def __init__(
        self, address: str, *, frames: bool = False, name: str = "", credentials: ClientCredentials = OPEN_CLIENT
    ) -> None:
        """Begin to watch the robot at address; frames come where the operator asked for them as well."""
        self._peer = Peer(address, pb.DESCRIPTOR.services_by_name["RobotService"], "robot server", credentials)
        self._replies = self._peer.follow("Watch", pb.WatchRequest(client=name or my_name(), frames=frames))
        self._closed = False

    def __iter__(self) -> Iterator[Sight]:
        return self

    def __next__(self) -> Sight:
        """Wait for the next thing to see; what came in between was skipped. Raise ProtocolError if the server went."""
        try:
            reply, frames = unpack(pb.WatchReply, next(self._replies))
        except grpc.RpcError as error:
            if self._closed:
                raise StopIteration from None
            raise self._peer.failure(error) from error
        match reply.WhichOneof("reply"):
            case "status":
                return decode_status(reply.status)
            case "observation":
                return decode_observation(reply.observation, frames)
            case "step":
                return decode_step(reply.step, frames)
        raise ProtocolError("something to see of no kind that this version knows; it knows status, observation, step")

    def close(self) -> None:
        """End the watch, also one that another thread waits in; idempotent."""
        self._closed = True
        cast(grpc.Call, self._replies).cancel()
        self._peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def watch_robot(address: str, *, frames: bool = False, credentials: ClientCredentials = OPEN_CLIENT) -> RobotWatch:
    """Watch the robot at address without disturbing its operator; use it in a `with`, and iterate."""
    return RobotWatch(address, frames=frames, credentials=credentials)

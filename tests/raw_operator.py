"""An operator that sends just what it is told: no heartbeat, no deadline, no cap, no check of the replies."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import Any, Self

import grpc

from embodied.bridge.address import PROTOCOL
from embodied.bridge.envelope import unpack
from embodied.v1 import robot_pb2 as pb
from tests.dummy_robot import JOINTS

TIMEOUT_S = 20.0
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, as if from another process
    ("grpc.max_send_message_length", -1),
)


def hold(actions: int = 1) -> dict[str, Any]:
    """Return a step of so many actions that hold."""
    poses = {"dtype": 4, "shape": [actions, len(JOINTS)], "data": bytes(4 * len(JOINTS) * actions)}
    return {"actions": {"poses": poses}, "frames": False}


class RawOperator:
    """One control stream on a channel of its own."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        begin = self._channel.stream_stream("/embodied.v1.RobotService/Control")
        self.call = begin(iter(self._requests.get, None), timeout=timeout_s)

    def send(self, **request: Any) -> None:
        """Send a request without waiting for its reply."""
        self.send_bytes(pb.ControlRequest(**request).SerializeToString())

    def send_bytes(self, data: bytes) -> None:
        """Send what may be no request."""
        self._requests.put(data)

    def ask(self, **request: Any) -> pb.ControlReply:
        """Send a request and return the next reply, without frames; grpc.RpcError if the stream ends instead."""
        self.send(**request)
        return self.reply()

    def reply(self) -> pb.ControlReply:
        """Return the next reply, without frames."""
        return unpack(pb.ControlReply, next(self.call))[0]

    def open(self, client: str = "raw", **fields: Any) -> pb.ControlReply:
        """Open the session."""
        return self.ask(open=pb.Open(protocol=PROTOCOL, client=client, **fields))

    def begin(self, client: str = "raw", *, task: str = "wait", **fields: Any) -> pb.ControlReply:
        """Open the session and begin an episode."""
        self.open(client, **fields)
        return self.ask(reset=pb.Reset(seed=0, task=task))

    def ended(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end of the stream; return its code and what was said."""
        with suppress(grpc.RpcError):
            list(self.call)  # what is not read yet comes before the end
        return self.call.code(), self.call.details() or ""

    def leave(self) -> None:
        """End the stream as a client does that is done; wait until the server has ended it too."""
        self._requests.put(None)
        list(self.call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.call.cancel()
        self._requests.put(None)
        self._channel.close()

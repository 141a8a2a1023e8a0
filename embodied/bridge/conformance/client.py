"""A raw client of a robot server: sends any bytes, waits no longer than its time-out, and keeps every error text."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from embodied.bridge.address import GRPC_OPTIONS, Address
from embodied.bridge.channel import open_channel
from embodied.bridge.conformance.verdict import NonconformityError
from embodied.bridge.credentials import ClientCredentials
from embodied.bridge.diagnosis import find_trouble
from embodied.errors import EmbodiedError
from embodied.v1 import robot_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RobotService"]
MAYBE_NO_CONNECTION = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
NO_CAP = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@dataclass(frozen=True)
class Ending:
    """How a call ended."""

    code: grpc.StatusCode
    details: str

    def __str__(self) -> str:
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


class Stream:
    """One call under way: its replies are read by a thread of its own, so that waiting for one can time out."""

    def __init__(self, begin: Callable[[Iterator[bytes]], Any], heard: Callable[[str], None]) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[bytes | Ending] = queue.SimpleQueue()
        self.heard = heard  # takes every error text
        self._call = begin(iter(self._requests.get, None))
        self._over = threading.Event()
        self.ending: Ending | None = None
        threading.Thread(target=self._read, name="conformance", daemon=True).start()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._requests.put(request)

    def receive(self, timeout_s: float) -> bytes | Ending | None:
        """Return the next reply, how the call ended, or None if neither came within timeout_s."""
        try:
            return self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def wait(self, timeout_s: float) -> Ending | None:
        """Return how the call ended, or None if it has not within timeout_s; what replies were left are dropped."""
        return self.ending if self._over.wait(timeout_s) else None

    def finish(self) -> None:
        """Tell the server that no request follows."""
        self._requests.put(None)

    def cancel(self) -> None:
        """End the call at once, as when a client dies; idempotent."""
        self._requests.put(None)
        self._call.cancel()

    def _read(self) -> None:
        try:
            for reply in self._call:
                self._arrived.put(reply)
        except grpc.RpcError:
            pass  # told by the code below
        self.ending = Ending(self._call.code(), self._call.details() or "")
        self.heard(self.ending.details)
        self._arrived.put(self.ending)
        self._over.set()


class Server:
    """The server under test, as one client's channel sees it."""

    def __init__(self, address: str, credentials: ClientCredentials, timeout_s: float) -> None:
        """Open a channel without waiting for it."""
        self.address = str(Address.parse(address))
        self.timeout_s = timeout_s
        self.said: list[str] = []  # every error text, for what must be in none
        self._credentials = credentials
        self._channel = open_channel(self.address, credentials, (*GRPC_OPTIONS, *NO_CAP))

    @property
    def release_command(self) -> str:
        """Return the command that releases the server's emergency stop."""
        return self._credentials.release_command(self.address)

    def another(self) -> Server:
        """Return a second client of the same server, with a connection of its own."""
        other = Server(self.address, self._credentials, self.timeout_s)
        other.said = self.said
        return other

    def connect(self) -> Ending | bytes:
        """Return the answer to Describe, a time-out too; raise EmbodiedError, saying why, if there is no connection."""
        reply = self.call(f"/{SERVICE.full_name}/Describe", b"")
        if isinstance(reply, Ending) and reply.code in MAYBE_NO_CONNECTION:
            if (trouble := find_trouble(Address.parse(self.address), self._credentials)) is not None:
                raise EmbodiedError(f"the robot server at {self.address} cannot be reached: {trouble.words}")
            if reply.code == grpc.StatusCode.UNAVAILABLE:
                raise EmbodiedError(f"the robot server at {self.address} cannot be reached: {reply!s}")
        return reply

    def call(self, path: str, request: bytes) -> bytes | Ending:
        """Return a unary method's reply, or how it failed; a time-out is DEADLINE_EXCEEDED."""
        method: Any = self._channel.unary_unary(path)
        try:
            reply: bytes = method(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            failed: Any = error
            self.said.append(failed.details() or "")
            return Ending(failed.code(), failed.details() or "")
        return reply

    def ask(self, name: str, request: Message) -> Any:  # noqa: ANN401  a message of the method's own type
        """Return RobotService's answer; raise NonconformityError if there is none, or none of its type."""
        reply = self.call(f"/{SERVICE.full_name}/{name}", request.SerializeToString())
        if isinstance(reply, Ending):
            if reply.code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise NonconformityError(f"{name} was not answered within {self.timeout_s:g} s")
            raise NonconformityError(f"{name} failed with {reply}")
        return decode(GetMessageClass(SERVICE.methods_by_name[name].output_type), reply)

    def first_of_stream(self, path: str, request: bytes) -> bytes | Ending:
        """Return the first reply to the one request of a stream, or how it ended; a time-out is DEADLINE_EXCEEDED."""
        stream = Stream(self._both_ways(path), self.said.append)
        stream.send(request)
        arrived = stream.receive(self.timeout_s)
        stream.cancel()
        return arrived or Ending(grpc.StatusCode.DEADLINE_EXCEEDED, f"no reply within {self.timeout_s:g} s")

    def control(self) -> Stream:
        """Begin a control stream."""
        return Stream(self._both_ways(f"/{SERVICE.full_name}/Control"), self.said.append)

    def watch(self, request: pb.WatchRequest) -> Stream:
        """Begin to watch."""
        return Stream(lambda _: self.unread_watch(request), self.said.append)

    def unread_watch(self, request: pb.WatchRequest) -> Any:  # noqa: ANN401  gRPC's call, untyped
        """Begin to watch without ever reading, as a client that hangs does; the caller cancels it."""
        begin: Any = self._channel.unary_stream(f"/{SERVICE.full_name}/Watch")
        return begin(request.SerializeToString())

    def _both_ways(self, path: str) -> Callable[[Iterator[bytes]], Any]:
        begin: Any = self._channel.stream_stream(path)
        return begin  # type: ignore[no-any-return]  # gRPC's types know no stream of bytes

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._channel.close()


def decode(kind: type[Message], data: bytes) -> Any:  # noqa: ANN401  a message of that kind
    """Return the message; raise NonconformityError if data is none of this kind."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise NonconformityError(f"expected a {kind.DESCRIPTOR.name}; found {len(data)} bytes: {error}") from error

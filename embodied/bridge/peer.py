"""The far side as seen from a client: its channel, its methods, who we say we are, and how its failures are told."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from embodied.bridge.address import PROTOCOL, Address
from embodied.bridge.channel import open_channel
from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials
from embodied.bridge.diagnosis import Trouble, find_trouble
from embodied.errors import ProtocolError

_MEANINGS = {
    grpc.StatusCode.UNIMPLEMENTED: "answers, but is no {what}: a robot server is asked for a policy, or the reverse",
    grpc.StatusCode.UNAVAILABLE: "cannot be reached or went away",
    grpc.StatusCode.DEADLINE_EXCEEDED: "did not answer in time; is the {what} running there?",
    grpc.StatusCode.CANCELLED: "ended the session",
    grpc.StatusCode.ABORTED: "ended the session",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "refused",
    grpc.StatusCode.FAILED_PRECONDITION: "refused",
}
_NO_CONNECTION = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
RETRY_S = 0.1  # while a server may still be starting


def my_name() -> str:
    """Return what this client is called where people read who holds a robot."""
    return f"{socket.gethostname()}/{os.getpid()}"


class Peer:
    """A server as its client sees it; every call that leaves here carries the client's credentials."""

    def __init__(
        self, address: str, schema: ServiceDescriptor, what: str, credentials: ClientCredentials = OPEN_CLIENT
    ) -> None:
        """Open a channel to address without waiting for it; what says what is expected there.

        Raise CredentialsError, naming the file, for credentials that cannot be used.
        """
        self._where = Address.parse(address)
        self.address = str(self._where)
        self.what = what
        self._schema = schema
        self._credentials = credentials
        self._channel = open_channel(self.address, credentials)

    def ask(self, method: str, request: Message, timeout_s: float) -> Any:  # noqa: ANN401
        """Return the answer to a unary method's request; raise ProtocolError, saying why, where there is none."""
        answer = self._try(method, request, timeout_s)
        if isinstance(answer, grpc.RpcError):
            raise self.failure(answer, self._trouble(answer)) from answer
        return answer

    def _try(self, method: str, request: Message, timeout_s: float) -> Any:  # noqa: ANN401
        """Return the answer, or gRPC's error."""
        try:
            return self._unary(method, request)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            return error
        except ValueError as error:  # gRPC's word for it
            raise ProtocolError(f"the connection to {self.address} is closed") from error

    def _unary(self, method: str, request: Message) -> Any:  # noqa: ANN401  gRPC's, as are its answers
        answer = GetMessageClass(self._schema.methods_by_name[method].output_type)
        return self._channel.unary_unary(
            f"/{self._schema.full_name}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )

    def probe(self, method: str, request: Message, timeout_s: float, hangs: Callable[[], object]) -> None:
        """Ask a unary method without waiting; hangs is called, from any thread, where timeout_s brings no answer."""

        def judge(call: Any) -> None:  # noqa: ANN401
            if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                hangs()

        with suppress(ValueError):  # the channel was closed meanwhile
            self._unary(method, request).future(request, timeout=timeout_s).add_done_callback(judge)

    def describe(self, request: Message, timeout_s: float) -> Any:  # noqa: ANN401  as ask
        """Return what the far side says it is, once it has started; raise ProtocolError if its protocol is another."""
        due_s = time.monotonic() + timeout_s
        while isinstance(described := self._try("Describe", request, due_s - time.monotonic()), grpc.RpcError):
            trouble = self._trouble(described)
            passes = described.code() is grpc.StatusCode.UNAVAILABLE and (trouble is None or trouble.may_pass)
            if not passes or time.monotonic() + RETRY_S > due_s:
                raise self.failure(described, trouble) from described
            time.sleep(RETRY_S)
        if described.protocol != PROTOCOL:
            raise ProtocolError(f"{self.address} speaks version {described.protocol} of the protocol, we {PROTOCOL}")
        return described

    def stream(self, method: str, requests: Iterator[bytes]) -> Iterator[bytes]:
        """Begin a stream of bytes both ways."""
        begin: Any = self._channel.stream_stream(f"/{self._schema.full_name}/{method}")
        return cast(Iterator[bytes], begin(requests))

    def follow(self, method: str, request: Message) -> Iterator[bytes]:
        """Begin a stream of bytes towards us."""
        begin: Any = self._channel.unary_stream(
            f"/{self._schema.full_name}/{method}", request_serializer=type(request).SerializeToString
        )
        return cast(Iterator[bytes], begin(request))

    def close(self) -> None:
        """Close the channel; idempotent."""
        self._channel.close()

    def failure(self, error: grpc.RpcError, trouble: Trouble | None = None) -> ProtocolError:
        """Return what a failed call means, in words."""
        if trouble is not None:
            return ProtocolError(f"{self.what} at {self.address} cannot be reached: {trouble.words}")
        code, details = error.code(), error.details() or "no details"
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return ProtocolError(f"{self.what} at {self.address} refused: {self._about_token()} ({details})")
        meaning = _MEANINGS.get(code, f"failed with {code.name}").format(what=self.what)
        return ProtocolError(f"{self.what} at {self.address} {meaning} ({details})")

    def _trouble(self, error: grpc.RpcError) -> Trouble | None:
        return find_trouble(self._where, self._credentials) if error.code() in _NO_CONNECTION else None

    def _about_token(self) -> str:
        token = self._credentials.token
        return "it wants a token; say --token FILE" if token is None else f"the token in {token} is not its own"

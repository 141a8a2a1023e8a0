"""A gRPC server that binds before it loads, refuses clearly, and stops from any thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from embodied.bridge.address import GRPC_OPTIONS, MAX_MESSAGE_BYTES, Address
from embodied.bridge.admission import Admission, CountingPool
from embodied.bridge.credentials import OPEN_SERVER, ServerCredentials
from embodied.bridge.introspection import Introspection
from embodied.errors import EmbodiedError

SERVER_OPTIONS = (
    *GRPC_OPTIONS,
    ("grpc.max_concurrent_streams", 256),  # of one connection
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.server_handshake_timeout_ms", 10_000),  # a connection that says nothing is not kept
)


class BridgeServer:
    """A server at an address; a context manager that stops it."""

    def __init__(
        self,
        address: str,
        *,
        threads: int,
        insecure: bool = False,
        credentials: ServerCredentials = OPEN_SERVER,
        largest_request: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Bind to address; largest_request is in bytes, and one that is larger ends its call.

        Raise EmbodiedError if it is taken, CredentialsError if the credentials cannot be used, or if other machines
        could reach the address and the credentials would let anyone in, unless that is meant: insecure.
        """
        wanted = Address.parse(address)
        credentials.require_enough(wanted, insecure=insecure)
        tls, token = credentials.load(), credentials.load_token()
        wanted.require_free()
        pool = CountingPool(threads, "bridge")
        options = dict(SERVER_OPTIONS) | {"grpc.max_receive_message_length": largest_request}
        self._grpc = grpc.server(pool, interceptors=[Admission(token, pool)], options=tuple(options.items()))
        try:
            with _files_of_ours_alone():
                port = self._listen(wanted, tls)
        except RuntimeError as error:
            raise EmbodiedError(f"{wanted} cannot be listened on") from error
        self._address = wanted if wanted.path else Address(host=wanted.host, port=port)
        self._introspection: Introspection | None = None
        self._release: Callable[[], None] = lambda: None
        self._started = False
        self._stopping = threading.Lock()
        self._stopped = threading.Event()

    @property
    def address(self) -> str:
        """Return the address to connect to, with the port that was really bound."""
        return str(self._address)

    def start(self, schema: ServiceDescriptor, service: object, release: Callable[[], None]) -> None:
        """Answer the schema's methods with the service's of the same name; release runs once, after the last."""
        handlers = {method.name: _handler(method, getattr(service, method.name)) for method in schema.methods}
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(schema.full_name, handlers),))
        self._introspection = Introspection(self._grpc, (schema.full_name,))
        self._release = release
        self._grpc.start()
        self._started = True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the server has stopped, or timeout_s passed; return whether it has stopped."""
        return self._stopped.wait(timeout_s)

    def stop(self) -> None:
        """End every session and let go of what is served; idempotent, safe from any thread."""
        with self._stopping:
            if self._stopped.is_set():
                return
            if self._introspection is not None:
                self._introspection.leave()
            if not self._started:
                self._grpc.start()  # else gRPC keeps the port
            self._grpc.stop(grace=None).wait()
            self._release()
            self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _listen(self, address: Address, tls: grpc.ServerCredentials | None) -> int:
        if tls is None:
            return self._grpc.add_insecure_port(str(address))
        return self._grpc.add_secure_port(str(address), tls)


@contextmanager
def _files_of_ours_alone() -> Iterator[None]:
    """Let a unix socket be made accessible to this user only; changing that afterwards would leave a moment open."""
    mask = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(mask)


def _handler(method: MethodDescriptor, behaviour: Callable[..., Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler; streams are given and give bytes, since those carry frames (see envelope.py)."""
    if method.client_streaming and method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(behaviour)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            behaviour, request_deserializer=GetMessageClass(method.input_type).FromString
        )
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )

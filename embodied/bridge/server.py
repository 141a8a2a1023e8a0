"""A gRPC server that binds before it loads, refuses clearly, and stops from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from embodied.bridge.address import GRPC_OPTIONS, Address
from embodied.errors import EmbodiedError


class BridgeServer:
    """A server at an address; a context manager that stops it."""

    def __init__(self, address: str, *, threads: int, insecure: bool) -> None:
        """Bind to address; raise EmbodiedError if it is taken, or reachable from elsewhere without insecure."""
        wanted = Address.parse(address)
        if not insecure:
            wanted.require_local()
        wanted.require_free()
        self._grpc = grpc.server(ThreadPoolExecutor(threads, "bridge"), options=GRPC_OPTIONS)
        try:
            port = self._grpc.add_insecure_port(str(wanted))
        except RuntimeError as error:
            raise EmbodiedError(f"{wanted} cannot be listened on") from error
        self._address = wanted if wanted.path else Address(host=wanted.host, port=port)
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
            if not self._started:
                self._grpc.start()  # else gRPC keeps the port
            self._grpc.stop(grace=None).wait()
            self._release()
            self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


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

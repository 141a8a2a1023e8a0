"""Opens a channel that carries the client's credentials: TLS, its certificate, and the token with every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import grpc

from embodied.bridge.address import GRPC_OPTIONS, Address
from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials

T = TypeVar("T")
Metadata = Sequence[tuple[str, str | bytes]]


def open_channel(
    address: str, credentials: ClientCredentials = OPEN_CLIENT, options: Sequence[tuple[str, Any]] = GRPC_OPTIONS
) -> grpc.Channel:
    """Open a channel to address without waiting for it.

    Raise EmbodiedError for what is no address, and CredentialsError, naming the file, for credentials that cannot be
    used.
    """
    where = Address.parse(address)
    tls, token = credentials.load(where), credentials.load_token()
    if tls is None:
        channel = grpc.insecure_channel(str(where), options=options)
    else:
        channel = grpc.secure_channel(str(where), tls, options=options)
    return channel if token is None else grpc.intercept_channel(channel, _SaysToken(token))


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Metadata
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _SaysToken(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the token to every call; gRPC's own call credentials would not, where there is no TLS."""

    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def _continue(self, continuation: Callable[[Any, Any], T], details: Any, request: Any) -> T:  # noqa: ANN401
        metadata = (*(details.metadata or ()), *self._metadata)
        return continuation(
            _Details(
                details.method,
                details.timeout,
                metadata,
                details.credentials,
                details.wait_for_ready,
                details.compression,
            ),
            request,
        )

    intercept_unary_unary = _continue  # type: ignore[assignment]
    intercept_unary_stream = _continue  # type: ignore[assignment]
    intercept_stream_unary = _continue  # type: ignore[assignment]
    intercept_stream_stream = _continue  # type: ignore[assignment]

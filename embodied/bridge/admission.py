"""Lets a call in or refuses it, before it takes a thread that others need: the token, and not too many at once."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

P = ParamSpec("P")
T = TypeVar("T")
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # only its stub can be subscripted

MAX_WAITING = 64  # calls that wait for a thread; more are refused at once
MAX_STRANGERS = 256  # told apart in the log; after that many, one line more says that there are others
REFUSING_THREADS = 2
REQUEST_S = 1.0  # for the request of a call with a single one to arrive
LEAST_S = 0.05  # the same, where the call had to wait for its thread longer than that

log = logging.getLogger(__name__)


class CountingPool(ThreadPoolExecutor):
    """A thread pool that knows how much it has been given to do."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, name)
        self._most = threads + MAX_WAITING
        self._lock = threading.Lock()
        self._unfinished = 0

    @property
    def is_crowded(self) -> bool:
        """Whether what comes now should rather be refused than wait."""
        return self._unfinished >= self._most

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run fn on a thread as soon as one is free."""
        with self._lock:
            self._unfinished += 1
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._count_down)
        return future

    def _count_down(self, done: Future[Any]) -> None:
        with self._lock:
            self._unfinished -= 1


class Admission(grpc.ServerInterceptor):
    """Refuses calls without the server's token, and those that would crowd its threads.

    The token is asked of every method, the emergency stop, health and reflection too. A crowd keeps out only calls that
    share the pool: a method with threads of its own (experimental_thread_pool), as the emergency stop has, is always
    heard. Nor can calls that never say what they ask keep those threads: they are ended after REQUEST_S.
    """

    def __init__(self, token: str | None, pool: CountingPool) -> None:
        self._token = None if token is None else f"Bearer {token}".encode()
        self._pool = pool
        self._refusing = ThreadPoolExecutor(REFUSING_THREADS, "bridge-refuse")
        self._strangers: set[str] = set()

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Handler | None], details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Return the method's handler, or one that refuses."""
        if self._token is not None:
            said = [value for name, value in details.invocation_metadata if name == "authorization"]
            if not said:
                return self._refusal(self._no_token)
            if len(said) > 1 or not hmac.compare_digest(_as_bytes(said[0]), self._token):
                return self._refusal(self._wrong_token)
        handler = continuation(details)
        if handler is not None and self._pool.is_crowded and not _has_own_threads(handler):
            return self._refusal(self._crowded)
        return None if handler is None else _hurried(handler, time.monotonic() + REQUEST_S)

    def _refusal(self, refuse: Callable[[grpc.ServicerContext], None]) -> Handler:
        def behaviour(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            refuse(context)
            return iter(())

        behaviour.experimental_thread_pool = self._refusing  # type: ignore[attr-defined]
        return grpc.stream_stream_rpc_method_handler(behaviour)  # to the wire a unary call is a short stream

    def _no_token(self, context: grpc.ServicerContext) -> None:
        self._log_once(context.peer(), "it gave no token")
        _end(
            context,
            grpc.StatusCode.UNAUTHENTICATED,
            "this server lets in only those who give its token, as metadata `authorization: Bearer TOKEN`",
        )

    def _wrong_token(self, context: grpc.ServicerContext) -> None:
        self._log_once(context.peer(), "it gave a token that is not this server's")
        _end(context, grpc.StatusCode.UNAUTHENTICATED, "the token given is not this server's")

    def _crowded(self, context: grpc.ServicerContext) -> None:
        _end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "this server has too many calls to answer; try again later")

    def _log_once(self, peer: str, why: str) -> None:
        host = peer.rpartition(":")[0]  # every connection has a port of its own
        if host in self._strangers or len(self._strangers) > MAX_STRANGERS:
            return
        self._strangers.add(host)
        if len(self._strangers) > MAX_STRANGERS:
            log.warning("refused more than %d hosts without the token; further ones are not logged", MAX_STRANGERS)
        else:
            log.warning("refused %s: %s; further refusals of it are not logged", peer, why)


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _has_own_threads(handler: Handler) -> bool:
    behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    return any(getattr(behaviour, "experimental_thread_pool", None) for behaviour in behaviours)


def _hurried(handler: Handler, due_s: float) -> Handler:
    """Return a handler that waits for its one request until due_s alone; gRPC's own waits on a thread for ever."""
    behaviour: Any = handler.unary_unary
    decode: Any = handler.request_deserializer
    encode: Any = handler.response_serializer
    if behaviour is None:
        return handler

    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        late = threading.Timer(max(due_s - time.monotonic(), LEAST_S), context.cancel)
        late.start()
        try:
            data = next(requests, None)
        finally:
            late.cancel()
        try:
            request = None if data is None else decode(data)
        except DecodeError:
            request = None
        if request is None:
            _end(context, grpc.StatusCode.INVALID_ARGUMENT, "the request is missing, or no message of its type")
            return iter(())
        return iter((encode(behaviour(request, context)),))

    if pool := getattr(behaviour, "experimental_thread_pool", None):
        answer.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return grpc.stream_stream_rpc_method_handler(answer)


def _end(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> None:
    context.set_code(code)
    context.set_details(details)

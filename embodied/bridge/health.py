"""Says whether a server is well, as grpc.health.v1 asks it.

grpcio-health-checking's own servicer sends while it holds a lock that gRPC's only serving thread also takes, when a
watcher leaves: then nothing is answered any more, not even the emergency stop (seen with 1.85.1). Here nothing is sent
under a lock. https://github.com/grpc/grpc/blob/master/doc/health-checking.md says what the answers mean.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2

MAX_WATCHES = 16
LAST_WORD_S = 0.5  # for watchers to hear that nothing is served any more

Reply = health_pb2.HealthCheckResponse


@dataclass(eq=False)
class _Watch:
    service: str
    told: int | None = None
    heard: int | None = None  # told, and sent
    over: bool = False


class Health:
    """The methods of grpc.health.v1.Health for the services of one server, named as in its schema."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self._statuses: dict[str, int] = dict.fromkeys(("", *services), Reply.SERVING)  # "": all of it
        self._changed = threading.Condition()
        self._watches: set[_Watch] = set()

    def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Reply:  # noqa: N802
        """Say how a service is."""
        if request.service not in self._statuses:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details(
                f"no service {request.service!r}; this server has {sorted(filter(None, self._statuses))}"
            )
            return Reply()
        return Reply(status=self._statuses[request.service])

    def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[Reply]:  # noqa: N802
        """Say how a service is, and again whenever that changes."""
        watch = _Watch(request.service)
        with self._changed:
            full = len(self._watches) >= MAX_WATCHES
            if not full:
                self._watches.add(watch)
        if full:
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details(f"this server's health is already watched by {MAX_WATCHES}")
            return
        try:
            if context.add_callback(lambda: self._end(watch)):
                while (status := self._next(watch)) is not None:
                    yield Reply(status=status)
        finally:
            self._end(watch)

    def leave(self) -> None:
        """Say from now on that nothing is served, and let who watches hear it."""
        with self._changed:
            self._statuses = {name: Reply.NOT_SERVING for name in self._statuses}
            self._changed.notify_all()
            self._changed.wait_for(lambda: all(w.heard == self._status(w) for w in self._watches), LAST_WORD_S)

    def _next(self, watch: _Watch) -> int | None:
        """Wait for what the watch is to be told next, now that it has heard the last; None when it is over."""
        with self._changed:
            watch.heard = watch.told
            self._changed.notify_all()  # leave waits for it
            self._changed.wait_for(lambda: watch.over or watch.told != self._status(watch))
            watch.told = self._status(watch)
            return None if watch.over else watch.told

    def _status(self, watch: _Watch) -> int:
        return self._statuses.get(watch.service, Reply.SERVICE_UNKNOWN)

    def _end(self, watch: _Watch) -> None:
        with self._changed:
            watch.over = True
            self._watches.discard(watch)
            self._changed.notify_all()

"""What any gRPC tool may ask a server: whether it is well (grpc.health.v1), and what it offers (server reflection)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from embodied.bridge.health import MAX_WATCHES, Health

HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)  # the same messages by two names
THREADS = 4  # that answer at once; whoever keeps reflection waiting for its next question takes one of its own


class Introspection:
    """Health and reflection of one server, on threads apart from the robot's, so that neither keeps the other out."""

    def __init__(self, server: grpc.Server, services: tuple[str, ...]) -> None:
        """Add both to a server that is not yet started, for the services with these full names."""
        self._health = Health(services)
        health, watches = ThreadPoolExecutor(THREADS, "health"), ThreadPoolExecutor(MAX_WATCHES + THREADS, "health")
        add = server.add_generic_rpc_handlers
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(
                _on(health, self._health.Check),
                request_deserializer=health_pb2.HealthCheckRequest.FromString,
                response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                _on(watches, self._health.Watch),
                request_deserializer=health_pb2.HealthCheckRequest.FromString,
                response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
            ),
        }
        add((grpc.method_handlers_generic_handler(HEALTH, methods),))
        reflect = reflection.ReflectionServicer((*services, HEALTH, *REFLECTION)).ServerReflectionInfo
        answer = grpc.stream_stream_rpc_method_handler(
            _on(ThreadPoolExecutor(THREADS, "reflection"), reflect),
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for name in REFLECTION:
            add((grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": answer}),))

    def leave(self) -> None:
        """Say from now on that nothing is served."""
        self._health.leave()


def _on(pool: ThreadPoolExecutor, method: Callable[..., Any]) -> Callable[..., Any]:
    def behaviour(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  any method's
        return method(request, context)

    behaviour.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return behaviour

"""What any gRPC tool may ask a server: whether it is well (grpc.health.v1), and what it offers (server reflection)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"  # the messages of v1alpha, which older tools ask for

# Apart from those that answer for the robot: whoever asks what there is must keep no operator out, nor the reverse.
_HEALTH = ThreadPoolExecutor(2, "bridge-health")
_REFLECTION = ThreadPoolExecutor(4, "bridge-reflection")


class Introspection:
    """Health and reflection of one server."""

    def __init__(self, server: grpc.Server, services: tuple[str, ...]) -> None:
        """Add both to a server that is not yet started, for the services with these full names."""
        self._health = _Health(experimental_thread_pool=_HEALTH)  # Watch holds no thread while nothing changes
        for service in services:
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        shown = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME, REFLECTION_V1)
        reflect = grpc.stream_stream_rpc_method_handler(
            _Reflection(shown).ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for name in (reflection.SERVICE_NAME, REFLECTION_V1):
            handlers = {"ServerReflectionInfo": reflect}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

    def leave(self) -> None:
        """Say from now on that nothing is served."""
        self._health.enter_graceful_shutdown()


class _Health(health.HealthServicer):
    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        return super().Check(request, context)

    Check.experimental_thread_pool = _HEALTH  # type: ignore[attr-defined]


class _Reflection(reflection.ReflectionServicer):
    def ServerReflectionInfo(  # type: ignore[override]  # noqa: N802  (the stubs also allow asyncio's context)
        self, request_iterator: Iterable[reflection_pb2.ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterable[reflection_pb2.ServerReflectionResponse]:
        yield from super().ServerReflectionInfo(request_iterator, context)

    ServerReflectionInfo.experimental_thread_pool = _REFLECTION  # type: ignore[attr-defined]

"""Health and reflection: any gRPC tool learns what a server offers and whether it is well, and holds nothing up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from embodied.bridge.health import MAX_WATCHES
from embodied.bridge.policy_server import serve_policy
from embodied.bridge.robot_server import RobotServer, serve_robot
from embodied.bridge.server import BridgeServer
from embodied.v1 import policy_pb2, robot_pb2, types_pb2
from policies.hold import HoldPolicy
from tests.dummy_robot import DummyRobot

ROBOT = robot_pb2.DESCRIPTOR.services_by_name["RobotService"]
POLICY = policy_pb2.DESCRIPTOR.services_by_name["PolicyService"]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server() -> Iterator[RobotServer]:
    with serve_robot(DummyRobot) as server:
        yield server


@pytest.fixture
def channel(server: RobotServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def reflect(
    channel: grpc.Channel, version: str, *requests: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(ask(iter(requests), timeout=10))


def check(channel: grpc.Channel, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
    ask = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return ask(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def watch(channel: grpc.Channel, service: str) -> Iterator[health_pb2.HealthCheckResponse]:
    begin = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return begin(health_pb2.HealthCheckRequest(service=service), timeout=30)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_the_schema_that_is_reflected_is_the_schema(channel: grpc.Channel, version: str) -> None:
    listing, described = reflect(
        channel,
        version,
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=ROBOT.full_name),
    )
    names = [service.name for service in listing.list_services_response.service]
    assert names == sorted(names) and {ROBOT.full_name, "grpc.health.v1.Health"} < set(names)
    files = described.file_descriptor_response.file_descriptor_proto
    found = {(file := descriptor_pb2.FileDescriptorProto.FromString(data)).name: file for data in files}
    for module in (robot_pb2, types_pb2):
        source = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(source)
        assert found[source.name] == source


def test_every_service_listed_has_all_its_methods(server: RobotServer, channel: grpc.Channel) -> None:
    for method in ROBOT.methods:
        stream = channel.stream_stream(f"/{ROBOT.full_name}/{method.name}")(iter([b""]), timeout=10)
        try:
            next(stream)
        except grpc.RpcError as error:
            assert error.code() is not grpc.StatusCode.UNIMPLEMENTED, method.name
        except StopIteration:
            pass
        stream.cancel()


def serve(service: ServiceDescriptor) -> BridgeServer:
    return serve_robot(DummyRobot) if service is ROBOT else serve_policy(HoldPolicy)


@pytest.mark.parametrize("service", [ROBOT, POLICY])
def test_health_is_told_of_each_service_until_the_server_stops(service: ServiceDescriptor) -> None:
    with serve(service) as server, grpc.insecure_channel(server.address) as channel:
        assert check(channel, "") == check(channel, service.full_name) == SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            check(channel, "no.such.Service")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        seen = watch(channel, service.full_name)
        assert next(seen).status == SERVING
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert next(seen).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as gone:
            next(seen)
        assert gone.value.code() is grpc.StatusCode.UNAVAILABLE
        stopping.join()


def test_health_is_watched_by_so_many_and_no_more(channel: grpc.Channel) -> None:
    watches = [watch(channel, "") for _ in range(MAX_WATCHES)]
    assert [next(seen).status for seen in watches] == [SERVING] * MAX_WATCHES
    with pytest.raises(grpc.RpcError) as refused:
        next(watch(channel, ""))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert check(channel, "") == SERVING


def test_watchers_that_come_and_go_while_the_server_stops_hang_nothing() -> None:
    # grpcio-health-checking's own servicer deadlocks here within a few rounds, and takes the whole server with it.
    for _ in range(30):
        server = serve_robot(DummyRobot)
        with grpc.insecure_channel(server.address) as channel:
            watches = [watch(channel, "") for _ in range(MAX_WATCHES)]
            for seen in watches:
                next(seen)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            for seen in watches:
                cast(grpc.Call, seen).cancel()
        stopping.join(timeout=30)
        assert not stopping.is_alive()

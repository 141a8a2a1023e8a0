"""Asks a server for its schema by gRPC reflection, and compares a schema with ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb

from embodied.bridge.conformance.client import SERVICE, Ending, Server, decode
from embodied.bridge.conformance.verdict import NonconformityError

# Of protocol 2, what only says more: a server whose schema is from before it is as good.
LATER = ("embodied.v1.Origin", "embodied.v1.DescribeRobotReply.origin", "embodied.v1.RobotSpec.tiers")
VERSIONS = ("v1", "v1alpha")  # the same messages under two names; a server may offer either


def reflect(server: Server) -> tuple[list[str], list[FileDescriptorProto]]:
    """Return the services that the server lists, and the files that describe RobotService."""
    listed = _ask(server, pb.ServerReflectionRequest(list_services=""))
    services = sorted(service.name for service in listed.list_services_response.service)
    found: dict[str, FileDescriptorProto] = {}
    request = pb.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name)
    wanted: list[str] = []
    while True:
        for data in _ask(server, request).file_descriptor_response.file_descriptor_proto:
            file: FileDescriptorProto = decode(FileDescriptorProto, data)
            found[file.name] = file
            wanted += file.dependency
        wanted = [name for name in wanted if name not in found]
        if not wanted:
            return services, list(found.values())
        found.setdefault(wanted[0], FileDescriptorProto(name=wanted[0]))  # asked for once
        request = pb.ServerReflectionRequest(file_by_filename=wanted[0])


def differences(ours: Iterable[FileDescriptorProto], theirs: Iterable[FileDescriptorProto]) -> list[str]:
    """List what ours has that theirs lacks or has otherwise; what only theirs has is none, nor lacking LATER."""
    there = dict(line for file in theirs for line in _lines(file))
    found = []
    for name, what in (line for file in ours for line in _lines(file)):
        if name not in there and name.startswith(LATER):
            continue
        if name not in there:
            found.append(f"{name} is missing")
        elif there[name] != what:
            found.append(f"{name}: expected {what}, found {there[name]}")
    return found


def _ask(server: Server, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
    for version in VERSIONS:
        reply = server.first_of_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", request.SerializeToString()
        )
        if not isinstance(reply, Ending):
            answer: pb.ServerReflectionResponse = decode(pb.ServerReflectionResponse, reply)
            if answer.HasField("error_response"):
                raise NonconformityError(f"reflection answers with an error: {answer.error_response.error_message}")
            return answer
        ending = reply
    raise NonconformityError(f"expected server reflection, {' or '.join(VERSIONS)}; found {ending}")


def _lines(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield the full name of everything in a file, and what of it crosses the wire."""
    for message in file.message_type:
        yield from _message(file.package, message)
    for enum in file.enum_type:
        yield from _enum(file.package, enum)
    for service in file.service:
        for method in service.method:
            ways = ("stream " * method.client_streaming, "stream " * method.server_streaming)
            yield (
                f"{file.package}.{service.name}.{method.name}",
                f"({ways[0]}{method.input_type}) returns ({ways[1]}{method.output_type})",
            )


def _message(scope: str, message: DescriptorProto) -> Iterator[tuple[str, str]]:
    name = f"{scope}.{message.name}"
    for field in message.field:
        kinds: Any = field.Type
        repeated = "repeated " * (field.label == field.LABEL_REPEATED)
        kind = field.type_name or kinds.Name(field.type).removeprefix("TYPE_").lower()
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        yield f"{name}.{field.name}", f"{repeated}{kind} = {field.number}" + (f" in {oneof}" if oneof else "")
    for inner in message.nested_type:
        yield from _message(name, inner)
    for enum in message.enum_type:
        yield from _enum(name, enum)


def _enum(scope: str, enum: EnumDescriptorProto) -> Iterator[tuple[str, str]]:
    for value in enum.value:
        yield f"{scope}.{enum.name}.{value.name}", str(value.number)

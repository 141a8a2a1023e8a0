"""dm_env_rpc's wire: a step of a remote environment, the chunk up and the observation down, packed by its own tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from tests.bench.wires.load import MAX_MESSAGE, Load

NEEDS = ("dm_env_rpc",)


def serve(load: Load, address: str, ready: Callable[[str], None]) -> None:
    """Answer every step with the observation."""
    import grpc
    from dm_env_rpc.v1 import dm_env_rpc_pb2, dm_env_rpc_pb2_grpc, tensor_utils

    arrays = [*load.frames.values(), load.state]

    class Environment(dm_env_rpc_pb2_grpc.EnvironmentServicer):  # type: ignore[misc]
        def Process(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
            for request in requests:
                for tensor in request.step.actions.values():
                    tensor_utils.unpack_tensor(tensor)
                response = dm_env_rpc_pb2.EnvironmentResponse()
                response.step.state = dm_env_rpc_pb2.EnvironmentStateType.RUNNING
                for index, array in enumerate(arrays, 1):
                    response.step.observations[index].CopyFrom(tensor_utils.pack_tensor(array))
                yield response

    server = grpc.server(futures.ThreadPoolExecutor(4), options=MAX_MESSAGE)
    dm_env_rpc_pb2_grpc.add_EnvironmentServicer_to_server(Environment(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready(f"127.0.0.1:{port}")
    server.wait_for_termination()


def connect(load: Load, address: str) -> Callable[[], None]:
    """Return what makes one round trip."""
    import grpc
    from dm_env_rpc.v1 import connection, dm_env_rpc_pb2, tensor_utils

    environment = connection.Connection(grpc.insecure_channel(address, options=MAX_MESSAGE))
    wanted = range(1, len(load.frames) + 2)

    def ask() -> None:
        actions = {1: tensor_utils.pack_tensor(load.actions)}
        response = environment.send(dm_env_rpc_pb2.StepRequest(requested_observations=wanted, actions=actions))
        for tensor in response.observations.values():
            tensor_utils.unpack_tensor(tensor)

    return ask

"""lerobot's asynchronous inference: gRPC carrying pickled observations in pieces, then a call for the pickled chunk.

It is measured as it is, pickle included, between two processes of this benchmark alone.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from tests.bench.wires.load import Load

NEEDS = ("lerobot", "torch", "huggingface_hub")


def serve(load: Load, address: str, ready: Callable[[str], None]) -> None:
    """Take observations and answer with the chunk."""
    import grpc
    from lerobot.transport import services_pb2, services_pb2_grpc
    from lerobot.transport.utils import receive_bytes_in_chunks

    chunk = [{"timestamp": 0.0, "timestep": index, "action": action} for index, action in enumerate(load.actions)]

    class Inference(services_pb2_grpc.AsyncInferenceServicer):  # type: ignore[misc]
        def SendObservations(self, requests: Iterator[Any], context: Any) -> Any:  # noqa: N802
            pickle.loads(receive_bytes_in_chunks(requests, None, threading.Event(), ""))
            return services_pb2.Empty()

        def GetActions(self, request: Any, context: Any) -> Any:  # noqa: N802
            return services_pb2.Actions(data=pickle.dumps(chunk))

    server = grpc.server(futures.ThreadPoolExecutor(4))
    services_pb2_grpc.add_AsyncInferenceServicer_to_server(Inference(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready(f"127.0.0.1:{port}")
    server.wait_for_termination()


def connect(load: Load, address: str) -> Callable[[], None]:
    """Return what makes one round trip."""
    import grpc
    from lerobot.transport import services_pb2, services_pb2_grpc
    from lerobot.transport.utils import send_bytes_in_chunks

    server = services_pb2_grpc.AsyncInferenceStub(grpc.insecure_channel(address))
    observation = {**load.frames, "state": load.state, "task": "pick"}

    def ask() -> None:
        pieces = send_bytes_in_chunks(pickle.dumps(observation), services_pb2.Observation, log_prefix="", silent=True)
        server.SendObservations(pieces)
        assert len(pickle.loads(server.GetActions(services_pb2.Empty()).data)) == len(load.actions)

    return ask

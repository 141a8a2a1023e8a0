"""gRPC alone: these bytes up one stream and the chunk's bytes back, no message and no check."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from tests.bench.wires.load import MAX_MESSAGE, Load

NEEDS = ("grpc",)


def serve(load: Load, address: str, ready: Callable[[str], None], options: tuple[Any, ...] = MAX_MESSAGE) -> None:
    """Answer every message with the chunk's bytes."""
    import grpc

    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        return (actions for _ in requests)

    actions = load.actions.tobytes()
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    handler = grpc.method_handlers_generic_handler("Bare", {"Act": grpc.stream_stream_rpc_method_handler(answer)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port(address)
    server.start()
    ready(address if address.startswith("unix:") else f"127.0.0.1:{port}")
    server.wait_for_termination()


def connect(load: Load, address: str, options: tuple[Any, ...] = MAX_MESSAGE) -> Callable[[], None]:
    """Return what makes one round trip; the parts of the message are joined in it, as any sender must."""
    import grpc

    frames, state = load.frames, load.state
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    channel = grpc.insecure_channel(address, options=options)
    replies: Any = channel.stream_stream("/Bare/Act")(iter(requests.get, None))

    def ask() -> None:
        requests.put(b"".join([*frames.values(), state]))
        next(replies)

    return ask

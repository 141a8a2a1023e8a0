"""openpi's wire: a websocket with msgpack, its own client against a server that answers as its own does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.bench.wires.load import Load

NEEDS = ("openpi_client", "websockets")


def serve(load: Load, address: str, ready: Callable[[str], None]) -> None:
    """Answer every observation with the chunk."""
    asyncio.run(_serve(load, ready))


async def _serve(load: Load, ready: Callable[[str], None]) -> None:
    import websockets.asyncio.server as websockets
    from openpi_client import msgpack_numpy

    async def answer(connection: Any) -> None:
        packer = msgpack_numpy.Packer()
        await connection.send(packer.pack({}))
        async for message in connection:
            msgpack_numpy.unpackb(message)
            await connection.send(packer.pack({"actions": load.actions, "server_timing": {"infer_ms": 0.0}}))

    async with websockets.serve(answer, "127.0.0.1", 0, compression=None, max_size=None) as server:
        ready(f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
        await server.serve_forever()


def connect(load: Load, address: str) -> Callable[[], None]:
    """Return what makes one round trip."""
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    host, _, port = address.partition(":")
    policy = WebsocketClientPolicy(host, int(port))
    observation = {"images": load.frames, "state": load.state, "prompt": "pick"}

    def ask() -> None:
        assert policy.infer(observation)["actions"].shape == load.actions.shape

    return ask

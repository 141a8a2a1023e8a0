"""A TCP proxy that stands for a bad network: it delays what passes, irregularly if told to, and stalls on demand."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Self

CHUNK_BYTES = 65536


class Proxy:
    """Carries every connection to target, a HOST:PORT, on a thread of its own; a context manager that ends it."""

    def __init__(self, target: str, *, delay_s: float = 0.0, jitter_s: float = 0.0, seed: int = 0) -> None:
        """Listen on a free port of loopback; each direction is late by delay_s, give or take up to jitter_s."""
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._delay_s, self._jitter_s = delay_s, jitter_s
        self._random = random.Random(seed)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pumps = set[asyncio.Task[None]]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    def stall(self) -> None:
        """Let nothing more through in either direction; connections stay open."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def resume(self) -> None:
        """Let through what was held back, and what follows."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def close(self) -> None:
        """Break every connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _end(self) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            for pump in (self._take_in(source, held), self._let_out(held, sink)):
                task = asyncio.create_task(pump)
                self._pumps.add(task)
                task.add_done_callback(self._pumps.discard)

    async def _take_in(self, source: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        due_s = 0.0
        data = b"more"
        while data:
            try:
                data = await source.read(CHUNK_BYTES)
            except ConnectionError:
                data = b""  # a connection that was reset has ended, as has one that was closed
            late_s = self._delay_s + self._random.uniform(-self._jitter_s, self._jitter_s)
            due_s = max(due_s, time.monotonic() + late_s)  # TCP keeps the order
            held.put_nowait((due_s, data))

    async def _let_out(self, held: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        try:
            while True:
                due_s, data = await held.get()
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                await self._flowing.wait()
                if not data:
                    return
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            return  # nobody is there to be told
        finally:
            sink.close()

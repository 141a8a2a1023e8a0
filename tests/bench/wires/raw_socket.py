"""The floor: these bytes from one Python process to another through a unix socket, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from tests.bench.wires.load import Load

NEEDS: tuple[str, ...] = ()


def serve(load: Load, address: str, ready: Callable[[str], None]) -> None:
    """Answer whole observations with the chunk's bytes until the other end closes."""
    frames, state, actions = load.frames, load.state, load.actions.tobytes()
    room = memoryview(bytearray(sum(frame.nbytes for frame in frames.values()) + state.nbytes))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address.removeprefix("unix:"))
        listener.listen(1)
        ready(address)
        connection, _ = listener.accept()
    while _receive(connection, room):
        connection.sendall(actions)


def connect(load: Load, address: str) -> Callable[[], None]:
    """Return what makes one round trip."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address.removeprefix("unix:"))
    parts = [memoryview(part).cast("B") for part in (*load.frames.values(), load.state)]
    room = memoryview(bytearray(load.actions.nbytes))
    return partial(_ask, connection, parts, room)


def _ask(connection: socket.socket, parts: list[memoryview], room: memoryview) -> None:
    for part in parts:
        connection.sendall(part)
    _receive(connection, room)


def _receive(connection: socket.socket, room: memoryview) -> bool:
    """Fill the room; return whether anything came."""
    got = 0
    while got < len(room):
        count = connection.recv_into(room[got:])
        if not count:
            return False
        got += count
    return True

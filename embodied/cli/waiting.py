"""Runs a server until the user or the system asks it to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Protocol


class Server(Protocol):
    """What the bridge's servers have in common."""

    @property
    def address(self) -> str:
        """Return the address that was really bound."""

    def wait(self, timeout_s: float | None = None) -> object:
        """Block until the server stops."""

    def stop(self) -> None:
        """Stop serving."""


class _Asked(BaseException):
    """SIGINT or SIGTERM arrived: for a server that is the ordinary end, not a failure."""


def serve_until_asked(start: Callable[[], Server], name: Callable[[], str]) -> int:
    """Start a server, print `serving NAME on ADDRESS`, and return 0 once SIGINT or SIGTERM has stopped it."""
    with _asked_by_signals():
        server = start()
        try:
            print(f"serving {name()} on {server.address}", flush=True)
            server.wait()
        finally:
            server.stop()
    return 0


@contextmanager
def _asked_by_signals() -> Iterator[None]:
    def ask(signum: int, frame: FrameType | None) -> NoReturn:
        # A terminal's Ctrl-C and a parent's SIGTERM may come together: one stops the server, and must not be disturbed.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # A second Ctrl-C, though, ends a stop that hangs.
        signal.signal(signal.SIGINT, signal.SIG_DFL if signum == signal.SIGINT else signal.SIG_IGN)
        raise _Asked

    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, ask)
        yield
    except _Asked:
        return

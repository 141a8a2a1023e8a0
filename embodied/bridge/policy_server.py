"""Serves a policy over gRPC: Describe and a stream of observations to action chunks."""

from collections.abc import Callable
from typing import Self

from embodied.types import Policy

DEFAULT_ADDRESS = "127.0.0.1:0"


class PolicyServer:
    """A running server; a context manager."""

    @property
    def address(self) -> str:
        """Return the address to connect to, with the port that was really bound."""
        raise NotImplementedError

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the server stops."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop serving; idempotent, safe from any thread."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def serve_policy(
    make_policy: Callable[[], Policy], address: str = DEFAULT_ADDRESS, *, name: str = "policy", insecure: bool = False
) -> PolicyServer:
    """Serve policies, one a session, each made by make_policy (which may share one model between them)."""
    raise NotImplementedError

"""Serves one robot over gRPC: Describe, a lock-step Control stream, Stop."""

from collections.abc import Callable
from typing import Self

from embodied.types import Robot

DEFAULT_ADDRESS = "127.0.0.1:0"


class RobotServer:
    """A running server; a context manager that stops the server and closes the robot."""

    @property
    def address(self) -> str:
        """Return the address to connect to, with the port that was really bound."""
        raise NotImplementedError

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the server stops."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the robot and the server and close the robot; idempotent, safe from any thread."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def serve_robot(
    make_robot: Callable[[], Robot], address: str = DEFAULT_ADDRESS, *, insecure: bool = False
) -> RobotServer:
    """Make the robot on a thread of its own and serve it at address (host:port or unix:/path)."""
    raise NotImplementedError

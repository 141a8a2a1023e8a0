"""A policy in another process, used through the same Policy protocol as a local one."""

from collections.abc import Sequence
from typing import Self

from embodied.types import Action, Observation, RobotSpec


class RemotePolicy:
    """A Policy behind an address."""

    def __init__(self, address: str, *, connect_timeout_s: float = 5.0) -> None:
        raise NotImplementedError

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode."""
        raise NotImplementedError

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next actions."""
        raise NotImplementedError

    def close(self) -> None:
        """End the session and the connection; idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

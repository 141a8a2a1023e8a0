"""A robot in another process, used through the same Robot protocol as a local one."""

from typing import Self

from embodied.types import Action, Observation, RobotSpec, Step


class RemoteRobot:
    """A Robot behind an address; the control stream opens with the first reset and ends with close."""

    def __init__(self, address: str, *, connect_timeout_s: float = 5.0) -> None:
        raise NotImplementedError

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        raise NotImplementedError

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode."""
        raise NotImplementedError

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions in order, as the local robot would."""
        raise NotImplementedError

    def stop(self) -> None:
        """Come to a controlled stop and hold."""
        raise NotImplementedError

    def close(self) -> None:
        """End the control stream (which stops the robot) and the connection; the far robot itself stays."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

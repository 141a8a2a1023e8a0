"""Whether the disk has room for another episode, by what those before it took."""

from __future__ import annotations

from embodied.errors import EmbodiedError
from embodied.types import RobotSpec

JPEG_SHARE = 0.25  # of a raw frame, until one is measured: more than any scene's took so far
COPIES = 2  # what was recorded, and the dataset that it is joined into while it is still there
MARGIN_BYTES = 64e6  # for everything else that writes to the disk


class RoomError(EmbodiedError):
    """A disk that is too full to begin an episode."""


class Room:
    """What a second of recording takes."""

    def __init__(self, spec: RobotSpec) -> None:
        self._hz = spec.control_hz
        self._bytes_a_row = JPEG_SHARE * sum(3 * c.height * c.width for c in spec.cameras) + 1000.0
        self._measured = False

    @property
    def bytes_a_second(self) -> float:
        """Return what a second takes on the disk: estimated, until an episode was measured."""
        return self._bytes_a_row * self._hz

    def measured(self, size: int, rows: int) -> None:
        """Take note of an episode: size in bytes; the fullest so far counts."""
        self._bytes_a_row = max(self._bytes_a_row if self._measured else 0.0, size / rows)
        self._measured = True

    def require(self, free_bytes: float, episode_s: float) -> None:
        """Raise RoomError, with the figures, where the disk might not take an episode of episode_s."""
        needed = COPIES * self.bytes_a_second * episode_s + MARGIN_BYTES
        if free_bytes < needed:
            raise RoomError(
                f"the disk has {free_bytes / 1e6:.0f} MB to spare, and an episode of {episode_s:g} s may need "
                f"{needed / 1e6:.0f} MB ({'as measured' if self._measured else 'estimated'}; it is written twice, the "
                "second time as the dataset is joined): free some and go on with --resume, or join what is there with "
                "--finish"
            )

"""How large a world's frames may be."""

from __future__ import annotations

from embodied.errors import EmbodiedError


class InvalidSizeError(EmbodiedError):
    """Frames of a size that cannot be drawn."""


def require_size(size: int, smallest: int, largest: int, *, of: str = "size") -> None:
    """Raise InvalidSizeError for frames that are too small or too large to draw."""
    if not smallest <= size <= largest:
        raise InvalidSizeError(f"{of} is {size}; frames are {smallest} to {largest} pixels wide and high")

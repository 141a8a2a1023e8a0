"""Who has a file open: for a device that takes one program at a time."""

from __future__ import annotations

import os
from pathlib import Path


def holders(path: str) -> list[Path]:
    """Return the folders in /proc of the processes that have path open, this one's too, as far as this user may see."""
    real = os.path.realpath(path)
    return [process for process in Path("/proc").glob("[0-9]*") if _has_open(process, real)]


def _has_open(process: Path, real: str) -> bool:
    try:
        return any(os.path.realpath(link) == real for link in (process / "fd").iterdir())
    except OSError:  # another user's, or it has ended
        return False

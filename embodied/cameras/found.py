"""Which cameras this machine has, by what the system says of them: nothing is opened, and no library is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from embodied.holders import holders

BY_ID = Path("/dev/v4l/by-id")
CLASS = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class Device:
    """A video device; many cameras have two, of which the one with index 0 gives pictures."""

    path: str
    name: str
    index: int
    stable: str  # a path that stays when it is plugged in elsewhere, empty if there is none
    may_open: bool

    def __str__(self) -> str:
        return f"{self.path} ({self.name}{f', {self.stable}' if self.stable else ''})"


def devices() -> list[Device]:
    """Return the video devices that can give pictures, in the order of their numbers; none where there is no Linux."""
    stable = {os.path.realpath(link): str(link) for link in sorted(BY_ID.glob("*"))} if BY_ID.is_dir() else {}
    found = [
        Device(
            path := f"/dev/{entry.name}",
            _line(entry / "name") or "unnamed",
            int(_line(entry / "index") or 0),
            stable.get(path, ""),
            os.access(path, os.R_OK | os.W_OK),
        )
        for entry in CLASS.glob("video*")
    ]
    return sorted((device for device in found if device.index == 0), key=lambda device: int(device.path[10:]))


def others_holding(path: str) -> list[str]:
    """Return the other processes that have path open, as far as this user may see them: "cheese (pid 4711)"."""
    others = [process for process in holders(path) if process.name != str(os.getpid())]
    return [f"{_line(process / 'comm') or 'a process'} (pid {process.name})" for process in others]


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""

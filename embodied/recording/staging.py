"""The folder in which a collection grows until it is a dataset: one process at a time, and it can be gone on with."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from embodied.recording import format as layout

STAGING = "staging"
PLAN = "plan.json"  # what may not change on the way


def check_directory(path: Path, *, resume: bool) -> None:
    """Raise DatasetError where path holds something else than the unfinished collection that resume expects."""
    if (path / layout.INFO).exists():
        raise layout.DatasetError(path, "already holds a dataset; choose another --out")
    if (path / STAGING).exists():
        if not resume:
            raise layout.DatasetError(path, "holds an unfinished collection; add --resume, or choose another --out")
    elif resume:
        raise layout.DatasetError(path, "holds no unfinished collection to go on with")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise layout.DatasetError(path, "is not an empty folder; choose another --out")


def open_staging(path: Path, fixed: Mapping[str, Any]) -> IO[bytes]:
    """Begin a collection in path, or go on with the one there; return its lock, held until closed or the process dies.

    fixed is what may not change on the way. Raise DatasetError, listing what did, or where another process is at it.
    """
    (path / STAGING).mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    file = path / STAGING / PLAN
    try:
        if file.exists():
            _require_same(file, fixed)
        layout.write_json(file, fixed)
    except BaseException:
        lock.close()
        raise
    return lock


def begun(path: Path) -> dict[str, Any]:
    """Return what may not change of the collection in path; nothing where none was begun."""
    file = path / STAGING / PLAN
    return layout.read_json(file) if file.exists() else {}


def joined_before(path: Path) -> dict[str, Any] | None:
    """Return the collection.json of a dataset whose joining was killed as it cleared up, having done that; else None.

    info.json is written last, so with it the dataset is whole and what is left in staging is of no more use.
    """
    if not ((path / layout.INFO).exists() and (path / STAGING).exists()):
        return None
    clear(path)
    return layout.read_json(path / layout.COLLECTION)


def clear(path: Path) -> None:
    """Remove what a dataset was joined from; another process may be doing the same."""

    def tolerate(function: object, name: str, found: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(found[1], FileNotFoundError):
            raise found[1]

    shutil.rmtree(path / STAGING, onerror=tolerate)


def remove_unfinished(path: Path) -> None:
    """Remove the files of a joining that was killed."""
    for name in ("data", "videos"):
        shutil.rmtree(path / name, ignore_errors=True)


def _lock(path: Path) -> IO[bytes]:
    file = (path / STAGING / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise layout.DatasetError(path, "another process is collecting there") from error
    return file


def _require_same(file: Path, fixed: Mapping[str, Any]) -> None:
    found = layout.read_json(file)
    if changed := [name for name in {**found, **fixed} if found.get(name) != fixed.get(name)]:
        lines = "".join(f"\n  - {name}: began with {found.get(name)}, now {fixed.get(name)}" for name in changed)
        raise layout.DatasetError(file.parent.parent, f"the collection there differs:{lines}")

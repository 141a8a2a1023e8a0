"""An output folder that appears whole or not at all; what a fault cut short may stay beside it."""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from embodied.errors import EmbodiedError

PROGRESS_AFTER_S = 2.0  # what takes longer has a bar


def to_disk(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk itself, so that a power cut leaves it; raise OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot, for a folder at least
            raise
    finally:
        os.close(descriptor)


class OutputError(EmbodiedError):
    """An output folder that cannot be made, or that holds something already."""


@contextlib.contextmanager
def output_folder(
    path: Path,
    *,
    marker: str,
    force: bool = False,
    keep: Callable[[Path], bool] = lambda _: False,
    begun: str | None = None,
    claim: Callable[[Path], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Iterator[Path]:
    """Yield a new folder beside path that becomes path when the block succeeds and vanishes when it does not.

    The folder is called path.partial, or path.partial-2 and so on where an earlier one was left. When the block fails
    it stays if keep, given the folder, says that it is worth it; and it stays, as it is, when this process is killed.
    With begun the newest of such folders that holds a file of that name is gone on with, where there is one; claim,
    given the folder, holds it meanwhile, and what it raises is not the folder's fault: another's stays as it is.
    Raise OutputError, before the block runs, if path holds anything; force replaces it, but only if it has the file
    called marker, so that a slip of the keyboard cannot delete what is no earlier output.
    """
    path = path.resolve()
    _check(path, marker, force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.with_name(f"{path.name}.partial")
        partial = (_left(name, begun) if begun else None) or _new_folder(name)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}") from error
    replaced = path.parent / f".{path.name}.replaced-{os.getpid()}"
    with claim(partial):
        try:
            yield partial
            if path.exists():
                path.rename(replaced)
            partial.rename(path)
        except BaseException:
            if not keep(partial):
                shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(replaced, ignore_errors=True)


def _new_folder(path: Path) -> Path:
    """Make a folder called path, or path-2, path-3, ... where those are taken."""
    for attempt in itertools.count(1):
        folder = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def _left(path: Path, begun: str) -> Path | None:
    """Return the newest folder that _new_folder made of path in which begun was written."""
    found = [folder for folder in path.parent.glob(f"{glob.escape(path.name)}*") if (folder / begun).is_file()]
    return max(found, key=lambda folder: (folder / begun).stat().st_mtime_ns, default=None)


def _check(path: Path, marker: str, force: bool) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path} is a file; --out takes a folder")
    if not any(path.iterdir()):
        return
    if not force:
        raise OutputError(f"{path} is not empty; choose another --out, or --force to replace it")
    if not (path / marker).is_file():
        raise OutputError(f"{path} holds no {marker}, so --force will not replace it; choose another --out")

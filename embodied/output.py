"""An output folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from embodied.errors import EmbodiedError


class OutputError(EmbodiedError):
    """An output folder that cannot be made, or that holds something already."""


@contextlib.contextmanager
def output_folder(path: Path, *, marker: str, force: bool = False) -> Iterator[Path]:
    """Yield a new folder that becomes path when the block succeeds and vanishes when it does not.

    Raise OutputError, before the block runs, if path holds anything; force replaces it, but only if it has the file
    called marker, so that a slip of the keyboard cannot delete what is no earlier output.
    """
    path = path.resolve()
    _check(path, marker, force)
    partial, replaced = (path.parent / f".{path.name}.{what}-{os.getpid()}" for what in ("partial", "replaced"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}") from error
    try:
        yield partial
        if path.exists():
            path.rename(replaced)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


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

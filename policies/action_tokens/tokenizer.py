"""What an action tokenizer is: chunks of actions to ids and back, kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError, InvalidActionError
from embodied.types import Field

Chunks = NDArray[np.floating[Any]]  # (n, steps, fields), each field in its own unit


class ActionTokenizer(Protocol):
    """Chunks of one length and one set of fields as sequences of ids from 0 to vocabulary - 1."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """Return what a step of a chunk consists of."""

    @property
    def steps(self) -> int:
        """Return the length of a chunk."""

    @property
    def vocabulary(self) -> int:
        """Count the ids."""

    def encode(self, chunks: Chunks) -> list[list[int]]:
        """Return the ids of each of chunks (n, steps, fields); raise InvalidActionError for another shape or NaN."""

    def clipped(self, chunks: Chunks) -> NDArray[np.bool_]:
        """Say of each value, shaped like chunks, whether it is out of reach and encoded as the nearest that is not."""

    def decode(self, ids: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the chunk (steps, fields) of ids, or None for a sequence that no chunk is encoded as."""

    def save(self, folder: Path) -> None:
        """Write what load needs into folder, which is made."""


class TokenizerFolderError(EmbodiedError):
    """A folder that holds no action tokenizer of the kind; names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"action tokenizer {path}: {reason}")


def check_chunks(chunks: Chunks, steps: int, fields: Sequence[Field]) -> NDArray[np.float64]:
    """Return chunks as float64; raise InvalidActionError unless they are (n, steps, fields) of finite numbers."""
    numbers = np.asarray(chunks, np.float64)
    if numbers.ndim != 3 or numbers.shape[1:] != (steps, len(fields)):
        raise InvalidActionError(f"chunks are (n, {steps}, {len(fields)}), got {numbers.shape}")
    if not (finite := np.isfinite(numbers)).all():
        chunk, step, field = np.argwhere(~finite)[0]
        raise InvalidActionError(f"{fields[field].name!r} is {numbers[chunk, step, field]} in chunk {chunk} at {step}")
    return numbers


def read_settings(path: Path, names: Sequence[str]) -> list[Any]:
    """Return the named entries of a JSON object's file; raise TokenizerFolderError if it is absent or lacks one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerFolderError(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TokenizerFolderError(path, f"is not JSON: {error}") from error
    if not isinstance(content, dict) or (missing := [name for name in names if name not in content]):
        raise TokenizerFolderError(path, f"has no {missing if isinstance(content, dict) else list(names)}")
    return [content[name] for name in names]

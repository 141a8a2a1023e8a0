"""Bins as an action tokenizer: every number of a chunk is one of 1000 value tokens over its field's own range."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodied.types import Field
from policies.action_tokens.tokenizer import Chunks, TokenizerFolderError, check_chunks, read_settings
from policies.values import BINS, decode_values, encode_values, ranges

SETTINGS = "bins.json"


@dataclass(frozen=True)
class BinTokenizer:
    """The value tokens of a chunk, step by step; nothing of it is learnt."""

    fields: tuple[Field, ...]
    steps: int

    @classmethod
    def load(cls, folder: Path) -> BinTokenizer:
        """Read what save wrote; raise TokenizerFolderError if it is not there or broken."""
        fields, steps, bins = read_settings(folder / SETTINGS, ("fields", "steps", "bins"))
        if bins != BINS:
            raise TokenizerFolderError(folder / SETTINGS, f"has {bins} bins; this reads {BINS}")
        try:
            return cls(tuple(Field(**field) for field in fields), int(steps))
        except (TypeError, ValueError) as error:
            raise TokenizerFolderError(folder / SETTINGS, f"does not describe its fields ({error})") from error

    def save(self, folder: Path) -> None:
        """Write the fields and the length."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"bins": BINS, "steps": self.steps, "fields": [asdict(field) for field in self.fields]}
        (folder / SETTINGS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @property
    def vocabulary(self) -> int:
        """Count the bins."""
        return BINS

    def encode(self, chunks: Chunks) -> list[list[int]]:
        """Return each chunk's bins, step by step; raise InvalidActionError for a wrong shape or NaN."""
        numbers = check_chunks(chunks, self.steps, self.fields)
        bins, _ = encode_values(numbers, *ranges(self.fields))
        return [[int(i) for i in row] for row in bins.reshape(len(bins), -1)]

    def clipped(self, chunks: Chunks) -> NDArray[np.bool_]:
        """Say of each value whether it lies out of its field's range."""
        return encode_values(check_chunks(chunks, self.steps, self.fields), *ranges(self.fields))[1]

    def decode(self, ids: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the bins' centres (steps, fields); None for another number of them or what is no bin."""
        if len(ids) != self.steps * len(self.fields) or not all(0 <= i < BINS for i in ids):
            return None
        return decode_values(np.reshape(ids, (self.steps, len(self.fields))), *ranges(self.fields))

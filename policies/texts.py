"""Plain text to learn from beside demonstrations: sentences to be continued, or prompts and their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embodied.errors import EmbodiedError
from policies.layout import Ids, Sequences, lay_out_text
from policies.vocabulary import Vocabulary

Pair = tuple[list[int], list[int]]


class Texts:
    """A file of text: one text a line, or, named *.jsonl, one object a line with `prompt` and `answer`."""

    def __init__(self, path: Path, vocabulary: Vocabulary, *, longest: int = 256) -> None:
        """Read it; texts are cut at longest tokens. Raise EmbodiedError naming the file and line that is wrong."""
        self.path, self._longest = path, longest
        self._pairs = [(vocabulary.encode_text(a), vocabulary.encode_text(b)) for a, b in read_texts(path)]
        self.training_rows = np.arange(len(self._pairs))

    def __len__(self) -> int:
        return len(self._pairs)

    def sequences(self, rows: Ids, random: Sequence[np.random.Generator]) -> Sequences:
        """Lay out these texts; one without a prompt is cut in two at random, the latter part to be written.

        random: a generator for each of them.
        """
        pairs = [self._cut(self._pairs[row], rng) for row, rng in zip(rows, random, strict=True)]
        return lay_out_text([prompt for prompt, _ in pairs], [answer for _, answer in pairs])

    def _cut(self, pair: Pair, rng: np.random.Generator) -> Pair:
        prompt, answer = pair[0][: self._longest // 2], pair[1][: self._longest]
        if prompt or len(answer) < 2:
            return prompt, answer
        at = int(rng.integers(len(answer) // 2 + 1))
        return answer[:at], answer[at:]


def read_texts(path: Path) -> list[tuple[str, str]]:
    """Return (prompt, answer) pairs, the prompt empty for plain text; raise EmbodiedError naming what is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EmbodiedError(f"{path}: cannot be read as text ({error})") from error
    found = [
        _pair(path, number, line) if path.suffix == ".jsonl" else ("", line.strip())
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise EmbodiedError(f"{path}: no text in it")
    return found


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        pair = json.loads(line)
        return str(pair.get("prompt", "")), str(pair["answer"])
    except (ValueError, KeyError, AttributeError) as error:
        raise EmbodiedError(
            f"{path}: line {number} is no object with an 'answer', and perhaps a 'prompt': {line[:60]!r}"
        ) from error

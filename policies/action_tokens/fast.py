"""FAST: a chunk's cosine transform, rounded, low frequencies first, as byte pairs learnt from the user's own chunks.

The scheme is that of Pertsch et al. 2025, arXiv 2501.09747, section V, with its scale of 10 and vocabulary of 1024.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct
from tokenizers import Tokenizer, models, trainers

from embodied.errors import EmbodiedError
from embodied.types import Field
from policies.action_tokens.tokenizer import Chunks, TokenizerFolderError, check_chunks, read_settings

SCALE = 10.0  # of a coefficient before it is rounded
VOCABULARY = 1024
QUANTILES = (0.01, 0.99)
SETTINGS, TOKENIZER = "fast.json", "tokenizer.json"
# A character a coefficient. These are in Unicode's last private plane: no letter, no space, nothing to normalise.
FIRST_CHARACTER, CHARACTERS = 0x100000, 0xFFFE
# Quantiles that lie closer are drawn apart, or the noise of a joint that hardly ever moves would be its unit: of the
# way from its least value to its most, so that coefficients stay few, and of its range, which is the width of a bin.
OF_SPAN, OF_RANGE = 1 / 4, 1e-3


class UntrainableError(EmbodiedError):
    """Chunks that no vocabulary of the size asked for can be learnt from; says what helps."""


class Normaliser:
    """Each field's 1st and 99th quantile to -1 and 1; what lies beyond is kept, up to the farthest seen in training."""

    def __init__(
        self, low: Sequence[float], high: Sequence[float], least: Sequence[float], most: Sequence[float]
    ) -> None:
        self.low, self.high = np.array(low, np.float64), np.array(high, np.float64)
        self.least, self.most = np.array(least, np.float64), np.array(most, np.float64)

    @classmethod
    def fit(cls, chunks: NDArray[np.float64], fields: Sequence[Field]) -> Normaliser:
        """Take the quantiles and the extremes of chunks (n, steps, fields), a field each."""
        values = chunks.reshape(-1, len(fields))
        low, high = np.quantile(values, QUANTILES, axis=0)
        least, most = values.min(0), values.max(0)
        floor = np.maximum(OF_SPAN * (most - least), [OF_RANGE * (field.high - field.low) for field in fields])
        short = np.maximum(floor - (high - low), 0.0) / 2
        return cls(low - short, high + short, least, most)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the four numbers of each field, in JSON types."""
        return {name: values.tolist() for name, values in vars(self).items()}

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values (..., fields) in units of half the quantiles' distance, from their middle."""
        return (values - self.low) / (self.high - self.low) * 2 - 1

    def back(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what forward was given."""
        return (values + 1) / 2 * (self.high - self.low) + self.low


class FastTokenizer:
    """Chunks (steps, fields) as byte pairs of their rounded cosine coefficients; every chunk in reach has its ids.

    In the units of Normaliser a value errs by at most `bound`, and a field of a chunk by 0.5 / scale root mean square:
    the transform is orthonormal, and rounding moves no coefficient by more than 0.5 / scale.
    """

    def __init__(
        self, tokenizer: Tokenizer, normaliser: Normaliser, fields: Sequence[Field], *, steps: int, scale: float
    ) -> None:
        self.fields, self.steps, self.scale = tuple(fields), steps, scale
        self.normaliser = normaliser
        self._tokenizer = tokenizer
        self._least, most = _reach(normaliser, steps, scale)
        self._count = most - self._least + 1
        pieces = {i: piece for piece, i in tokenizer.get_vocab().items()}
        self._pieces = [pieces[i] for i in range(len(pieces))]
        basis = np.abs(dct(np.eye(steps), axis=0, norm="ortho"))  # (frequency, step)
        self.bound = basis.sum(0).max() * 0.5 / scale

    @classmethod
    def train(
        cls, chunks: Chunks, fields: Sequence[Field], *, vocabulary: int = VOCABULARY, scale: float = SCALE
    ) -> FastTokenizer:
        """Learn at most vocabulary byte pairs from chunks (n, steps, fields).

        Raise UntrainableError where the coefficients alone need more ids than that, InvalidActionError for NaN.
        """
        steps = np.shape(chunks)[1]
        numbers = check_chunks(chunks, steps, fields)
        normaliser = Normaliser.fit(numbers, fields)
        least, most = _reach(normaliser, steps, scale)
        if (count := most - least + 1) > min(vocabulary, CHARACTERS):
            raise UntrainableError(
                f"chunks of {steps} steps at scale {scale:g} have {count} different coefficients, more than the "
                f"{min(vocabulary, CHARACTERS)} of the vocabulary: raise --vocabulary or lower --scale"
            )
        alphabet = [chr(FIRST_CHARACTER + i) for i in range(count)]
        tokenizer = Tokenizer(models.BPE())
        rounded = _coefficients(numbers, normaliser, scale)
        tokenizer.train_from_iterator(
            (_text(row - least) for row in rounded),
            trainers.BpeTrainer(vocab_size=vocabulary, min_frequency=2, initial_alphabet=alphabet, show_progress=False),
        )
        return cls(tokenizer, normaliser, fields, steps=steps, scale=scale)

    @classmethod
    def load(cls, folder: Path) -> FastTokenizer:
        """Read what save wrote; raise TokenizerFolderError naming what is missing or does not fit."""
        names = ("fields", "steps", "scale", "normaliser")
        fields, steps, scale, normaliser = read_settings(folder / SETTINGS, names)
        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # tokenizers raises no narrower type
            raise TokenizerFolderError(folder / TOKENIZER, f"is no tokenizer ({error})") from error
        try:
            found = tuple(Field(**field) for field in fields)
            made = cls(tokenizer, Normaliser(**normaliser), found, steps=int(steps), scale=float(scale))
        except (TypeError, ValueError, KeyError) as error:
            raise TokenizerFolderError(folder / SETTINGS, f"does not describe a tokenizer ({error!r})") from error
        if not made._knows_its_alphabet():
            raise TokenizerFolderError(folder / TOKENIZER, f"is not the one that {SETTINGS} belongs to")
        return made

    def save(self, folder: Path) -> None:
        """Write the byte pairs, and the settings and statistics beside them."""
        folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"scale": self.scale, "steps": self.steps, "normaliser": self.normaliser.to_dict()}
        content["fields"] = [asdict(field) for field in self.fields]
        (folder / SETTINGS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        self._tokenizer.save(str(folder / TOKENIZER))

    @property
    def vocabulary(self) -> int:
        """Count the ids: every coefficient, and the pairs."""
        return len(self._pieces)

    @property
    def alphabet(self) -> int:
        """Count the ids that are single coefficients."""
        return self._count

    def encode(self, chunks: Chunks) -> list[list[int]]:
        """Return each chunk's ids; raise InvalidActionError for a wrong shape or NaN."""
        numbers = check_chunks(chunks, self.steps, self.fields)
        rounded = _coefficients(numbers, self.normaliser, self.scale) - self._least
        return [encoding.ids for encoding in self._tokenizer.encode_batch([_text(row) for row in rounded])]

    def clipped(self, chunks: Chunks) -> NDArray[np.bool_]:
        """Say of each value whether it lies beyond all that its field was in training."""
        numbers = check_chunks(chunks, self.steps, self.fields)
        return (numbers < self.normaliser.least) | (numbers > self.normaliser.most)

    def beyond(self, chunks: Chunks) -> NDArray[np.bool_]:
        """Say of each value whether it lies beyond its field's quantiles, where it is encoded all the same."""
        return np.abs(self.normaliser.forward(check_chunks(chunks, self.steps, self.fields))) > 1

    def decode(self, ids: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the chunk (steps, fields) of ids.

        None for an id that is none, for another number of coefficients than a chunk has, and for a value that lies
        farther out than rounding can put it: no chunk is encoded so.
        """
        if not all(0 <= i < len(self._pieces) for i in ids):
            return None
        text = "".join(self._pieces[i] for i in ids)
        if len(text) != self.steps * len(self.fields):
            return None
        rounded = np.array([ord(character) for character in text]) - FIRST_CHARACTER + self._least
        chunk = idct(rounded.reshape(self.steps, -1) / self.scale, axis=0, norm="ortho")
        least, most = self.normaliser.forward(np.stack([self.normaliser.least, self.normaliser.most]))
        slack = self.bound + 1e-9  # the transform's own rounding
        if ((chunk < least - slack) | (chunk > most + slack)).any():
            return None
        return self.normaliser.back(chunk)

    def _knows_its_alphabet(self) -> bool:
        known = {character for piece in self._pieces for character in piece}
        return known == {chr(FIRST_CHARACTER + i) for i in range(self._count)} <= set(self._pieces)


def _coefficients(chunks: NDArray[np.float64], normaliser: Normaliser, scale: float) -> NDArray[np.int64]:
    """Return (n, steps * fields): all fields of frequency 0, then all of frequency 1, and so on."""
    inside = np.clip(chunks, normaliser.least, normaliser.most)
    transformed = dct(normaliser.forward(inside), axis=1, norm="ortho")
    rounded: NDArray[np.int64] = np.rint(transformed * scale).astype(np.int64)
    return rounded.reshape(len(chunks), -1)


def _reach(normaliser: Normaliser, steps: int, scale: float) -> tuple[int, int]:
    """Return the least and the largest coefficient that any chunk within the normaliser's extremes can have."""
    basis = dct(np.eye(steps), axis=0, norm="ortho")  # (frequency, step)
    up, down = np.maximum(basis, 0).sum(1)[:, None], np.minimum(basis, 0).sum(1)[:, None]
    least, most = normaliser.forward(np.stack([normaliser.least, normaliser.most]))
    return int(np.floor((up * least + down * most).min() * scale)), int(
        np.ceil((up * most + down * least).max() * scale)
    )


def _text(codes: NDArray[np.int64]) -> str:
    return "".join(map(chr, (codes + FIRST_CHARACTER).tolist()))

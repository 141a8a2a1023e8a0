"""What an action tokenizer costs and loses on given chunks: tokens, error, time, and what broken sequences become."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.action_tokens.tokenizer import ActionTokenizer, Chunks

BROKEN = 1000  # sequences of each kind, so that a share is known to a few percent


@dataclass(frozen=True)
class Failures:
    """What became of sequences that were broken in one way; errors are the worst value's, as a share of its range."""

    sequences: int
    failed: float  # share that does not decode
    error_median: float | None  # of those that do; None where none does
    error_max: float | None


@dataclass(frozen=True)
class FieldError:
    """What a field loses, in its own unit and as a share of its range, and how many of its values were out of reach."""

    name: str
    unit: str
    rmse: float
    max: float
    rmse_share: float
    max_share: float
    clipped: int


@dataclass(frozen=True)
class Measures:
    """One tokenizer on one set of chunks."""

    vocabulary: int
    tokens_mean: float
    tokens_p95: float
    tokens_max: int
    error: tuple[FieldError, ...]
    rmse_share: float  # over all values
    undecoded: int  # of the whole sequences: 0, or it is no tokenizer
    failures: dict[str, Failures]
    encode_us: float  # a chunk, all at once
    decode_us: float  # a chunk, one by one

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)


def measure(tokenizer: ActionTokenizer, chunks: Chunks, *, seed: int = 0) -> Measures:
    """Encode chunks (n, steps, fields), decode them, whole and broken, and compare."""
    sequences = tokenizer.encode(chunks)
    decoded = [tokenizer.decode(ids) for ids in sequences]
    whole = [i for i, chunk in enumerate(decoded) if chunk is not None]
    back = np.stack([chunk for chunk in decoded if chunk is not None])
    errors = back - np.asarray(chunks, np.float64)[whole]
    counts = np.array([len(ids) for ids in sequences])
    return Measures(
        vocabulary=tokenizer.vocabulary,
        tokens_mean=float(counts.mean()),
        tokens_p95=float(np.quantile(counts, 0.95)),
        tokens_max=int(counts.max()),
        error=tuple(_field_errors(tokenizer, errors, tokenizer.clipped(chunks))),
        rmse_share=float(np.sqrt(np.mean((errors / _widths(tokenizer)) ** 2))),
        undecoded=len(sequences) - len(whole),
        failures=break_and_decode(tokenizer, sequences, chunks, seed=seed),
        encode_us=_quickest_s(lambda: tokenizer.encode(chunks)) / len(sequences) * 1e6,
        decode_us=_quickest_s(lambda: [tokenizer.decode(ids) for ids in sequences]) / len(sequences) * 1e6,
    )


def break_and_decode(
    tokenizer: ActionTokenizer, sequences: Sequence[list[int]], chunks: Chunks, *, seed: int
) -> dict[str, Failures]:
    """Decode sequences with one token changed, cut short, and of random tokens, as many as each sequence has."""
    random = np.random.default_rng(seed)
    picked = random.integers(len(sequences), size=BROKEN)
    found = {}
    for name in ("changed", "cut", "random"):
        broken = [_break(sequences[i], name, tokenizer.vocabulary, random) for i in picked]
        decoded = [
            (i, chunk) for i, ids in zip(picked, broken, strict=True) if (chunk := tokenizer.decode(ids)) is not None
        ]
        off = [float((np.abs(chunk - chunks[i]) / _widths(tokenizer)).max()) for i, chunk in decoded]
        typical, worst = (float(np.median(off)), max(off)) if off else (None, None)
        found[name] = Failures(BROKEN, 1 - len(off) / BROKEN, typical, worst)
    return found


def _break(ids: list[int], how: str, vocabulary: int, random: np.random.Generator) -> list[int]:
    if how == "random":
        return [int(i) for i in random.integers(vocabulary, size=len(ids))]
    place = int(random.integers(len(ids)))
    if how == "cut":
        return ids[:place]
    other = int(random.integers(vocabulary - 1))  # any but the one that stands there
    return [*ids[:place], other + (other >= ids[place]), *ids[place + 1 :]]


def _field_errors(
    tokenizer: ActionTokenizer, errors: NDArray[np.float64], clipped: NDArray[np.bool_]
) -> Iterator[FieldError]:
    for i, (field, width) in enumerate(zip(tokenizer.fields, _widths(tokenizer), strict=True)):
        rmse, worst = float(np.sqrt(np.mean(errors[..., i] ** 2))), float(np.abs(errors[..., i]).max())
        share = {"rmse_share": float(rmse / width), "max_share": float(worst / width)}
        yield FieldError(field.name, field.unit, rmse, worst, clipped=int(clipped[..., i].sum()), **share)


def _quickest_s(work: Callable[[], object]) -> float:
    """Return the least time of a few runs: whatever else the machine does only adds to it."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _widths(tokenizer: ActionTokenizer) -> NDArray[np.float64]:
    return np.array([field.high - field.low for field in tokenizer.fields])

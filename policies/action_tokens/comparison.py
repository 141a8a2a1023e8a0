"""Bins and FAST on one recording: trained on its training episodes, measured on its held-out ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embodied.output import PROGRESS_AFTER_S, output_folder
from embodied.recording.reader import DatasetReader
from embodied.types import Field
from policies.action_tokens.bins import BinTokenizer
from policies.action_tokens.chunks import ChunkSets, chunks_of
from policies.action_tokens.fast import SCALE, VOCABULARY, FastTokenizer
from policies.action_tokens.measures import measure
from policies.action_tokens.tokenizer import ActionTokenizer

REPORT = "comparison.json"


def compare(
    dataset: Path,
    lengths: Sequence[int],
    *,
    vocabulary: int = VOCABULARY,
    scale: float = SCALE,
    out: Path | None = None,
    force: bool = False,
) -> list[dict[str, Any]]:
    """Return, a chunk length each, what both tokenizers cost and lose, in JSON types; write them into out.

    Raise EmbodiedError naming what of the dataset is unfit, before anything is written.
    """
    reader = DatasetReader(dataset, frames=False)
    if out is None:
        return [_compare(reader, chunks_of(reader, steps), vocabulary, scale)[0] for steps in _told(lengths)]
    sets = [chunks_of(reader, steps) for steps in lengths]
    with output_folder(out, marker=REPORT, force=force) as folder:
        results = []
        for steps, chunks in zip(_told(lengths), sets, strict=True):
            result, tokenizers = _compare(reader, chunks, vocabulary, scale)
            for name, tokenizer in tokenizers.items():
                tokenizer.save(folder / f"chunk-{steps}" / name)
            results.append(result)
        (folder / REPORT).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def _told(lengths: Sequence[int]) -> Iterable[int]:
    return tqdm(lengths, unit="chunk length", delay=PROGRESS_AFTER_S, dynamic_ncols=True)


def _compare(
    reader: DatasetReader, chunks: ChunkSets, vocabulary: int, scale: float
) -> tuple[dict[str, Any], dict[str, ActionTokenizer]]:
    fields, steps = reader.spec.action, chunks.training.shape[1]
    fast = FastTokenizer.train(chunks.training, fields, vocabulary=vocabulary, scale=scale)
    tokenizers: dict[str, ActionTokenizer] = {"bins": BinTokenizer(fields, steps), "fast": fast}
    measured = chunks.held_out if len(chunks.held_out) else chunks.training
    result = {
        "chunk": steps,
        "scale": scale,
        "training_chunks": len(chunks.training),
        "measured_chunks": len(measured),
        "held_out_episodes": chunks.episodes,
        "coefficients": fast.alphabet,
        "constant_fields": _constant(chunks, fields),
        "beyond_quantiles": float(fast.beyond(measured).mean()),
        "tokenizers": {name: measure(tokenizer, measured).to_dict() for name, tokenizer in tokenizers.items()},
    }
    return result, tokenizers


def _constant(chunks: ChunkSets, fields: Sequence[Field]) -> list[str]:
    values = chunks.training.reshape(-1, len(fields))
    return [f.name for f, low, high in zip(fields, values.min(0), values.max(0), strict=True) if low == high]

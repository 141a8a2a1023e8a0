"""How good the averaged weights are on held-out episodes: losses, errors in units, and a few answers to look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from policies.batch import Part
from policies.layout import UNSUPERVISED, Plan
from policies.losses import count, likely_bins, mean_bins
from policies.mixture import Mixture
from policies.model import Answers
from policies.training.run import Run
from policies.values import BINS, decode_values, ranges
from policies.vocabulary import FIRST_TEXT

SIZE, BATCHES = 64, 6  # of held-out examples; batches no larger than those that are learnt, and so no slower
SAMPLES = 3
CHUNK = "pose_error"


@dataclass(frozen=True)
class Sample:
    """One held-out example and what the policy answers to it."""

    robot: str
    instruction: str
    fields: tuple[str, ...]
    true: NDArray[np.float64]  # (chunk, n) in the spec's units, NaN where it is not known
    answered: NDArray[np.float64]  # (chunk, n)
    true_text: str
    answered_text: str  # each token given the true ones before it
    frames: list[NDArray[np.uint8]]  # a camera: (H, W, 3)
    looked: list[NDArray[np.float32]]  # a camera: (latents, rows, columns), where each image token looked


@torch.no_grad()
def evaluate(run: Run, mixture: Mixture) -> dict[str, float]:
    """Return the held-out loss and its terms, and errors: of the chunk as a part of range, of each label in its unit.

    All are of all held-out examples together, however batches share them out. The chunk's is the mean distance, a
    label's the median. Every process must call it, and each finds the same. Empty where no episode is held out.
    """
    sums: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    errors: dict[str, list[NDArray[Any]]] = {}
    with run.averaged():
        for batch in mixture.validation(size=min(SIZE, run.config.batch), batches=BATCHES):
            counted = count(batch)
            with run.autocast():
                _, terms, answers = run.learner(batch, counted)
            for name, term in terms.items():
                sums[name] += float(term) * counted[name]
                counts[name] += counted[name]
            for part, answer in zip(batch.parts, answers, strict=True):
                for name, gaps in _errors(part, answer).items():
                    errors.setdefault(name, []).append(gaps)
    means = {name: sums[name] / number for name, number in counts.items() if number}
    weighted = [run.config.objective.weights[name] * mean for name, mean in means.items()]
    return {
        **({"held_out_loss": sum(weighted)} if means else {}),
        **{f"held_out_loss_{name}": mean for name, mean in means.items()},
        **{name: float((np.mean if name == CHUNK else np.median)(np.concatenate(e))) for name, e in errors.items()},
    }


@torch.no_grad()
def take_samples(run: Run, mixture: Mixture) -> list[Sample]:
    """Return a few held-out examples, or learnt ones where none is held out, and the averaged weights' answers."""
    held_out = list(mixture.validation(size=SAMPLES, batches=1))
    batch = held_out[0] if held_out else mixture.batch(0, size=SAMPLES, seed=run.config.seed)
    with run.averaged(), run.autocast():
        _, _, answers = run.learner(batch, count(batch))
    return [
        _sample(run, part, answer, row)
        for part, answer in zip(batch.parts, answers, strict=True)
        if part.plan is not None
        for row in range(len(part))
    ]


def describe(samples: Sequence[Sample]) -> str:
    """Return samples in words: what was said, what was answered, what was right."""
    lines: list[str] = []
    for sample in samples:
        lines += [f"{sample.robot}: {sample.instruction}"]
        for index, name in enumerate(sample.fields):
            true = "  ".join(f"{v:8.3f}" for v in sample.true[:, index])
            answered = "  ".join(f"{v:8.3f}" for v in sample.answered[:, index])
            lines += [f"  {name:<24} answered {answered}", f"  {'':<24} true     {true}"]
        if sample.true_text:
            lines += [f"  says {sample.answered_text!r}, true {sample.true_text!r}"]
        lines.append("")
    return "\n".join(lines)


def _errors(part: Part, answer: Answers) -> dict[str, NDArray[Any]]:
    """Return how far off a part's answers, chunk and labels, are where the true ones are known, each (E,)."""
    if part.plan is None:
        return {}
    asked = part.sequences.pose_targets != UNSUPERVISED
    gap = np.abs(mean_bins(answer.pose).cpu().numpy() - part.sequences.pose_targets)[asked] / BINS
    return {**label_errors(part.plan, part, answer), **({CHUNK: gap} if len(gap) else {})}


def label_errors(plan: Plan, part: Part, answer: Answers) -> dict[str, NDArray[Any]]:
    """Return, for each label, the distance (E,) between the point or box believed and the true one, where known."""
    found = mean_bins(answer.locate).cpu().numpy()
    errors = {}
    for slot, label in enumerate(plan.labels):
        width = len(label.fields)
        low, high = ranges(label.fields)
        true = part.sequences.locate_targets[:, slot, :width]
        known = (true != UNSUPERVISED).all(-1)
        gap = decode_values(found[:, slot, :width], low, high) - decode_values(true, low, high)
        if known.any():
            errors[label.name] = np.linalg.norm(gap[known], axis=-1)
    return errors


def _sample(run: Run, part: Part, answer: Answers, row: int) -> Sample:
    plan, sequences, vocabulary = part.plan, part.sequences, run.checkpoint.vocabulary
    assert plan is not None
    low, high = ranges(plan.spec.action)
    targets = sequences.pose_targets[row]
    true = np.where(targets == UNSUPERVISED, np.nan, decode_values(np.maximum(targets, 0), low, high))
    asked = sequences.text_targets[row] != UNSUPERVISED
    said = answer.text[row].argmax(-1).cpu().numpy()[asked] if asked.any() else np.empty(0, np.int64)
    return Sample(
        robot=plan.spec.name,
        instruction=vocabulary.decode_text(_words(sequences.tokens[row, plan.text])),
        fields=tuple(field.name for field in plan.spec.action),
        true=true,
        answered=decode_values(likely_bins(answer.pose[row]).cpu().numpy(), low, high),
        true_text=vocabulary.decode_text(_words(sequences.text_targets[row][asked])),
        answered_text=vocabulary.decode_text(_words(said)),
        frames=[frames[row].numpy() for frames in part.frames],
        looked=[looked[row].float().mean(1).cpu().numpy() for looked in answer.looked],
    )


def _words(ids: NDArray[np.int64]) -> list[int]:
    return [int(i) for i in ids if i >= FIRST_TEXT]

"""Checks a dataset before anyone trains on it: rows, times, values and statistics; frames and motion have their own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.recording import format as layout
from embodied.recording.episodes import EpisodeRange
from embodied.recording.findings import Examined, Finding, Thresholds, drop_it, whole
from embodied.recording.frame_checks import check_frames
from embodied.recording.motion_checks import check_motion
from embodied.recording.reader import DatasetReader
from embodied.recording.sameness import digest
from embodied.recording.soundness import RIGHT_SPEC, misfits
from embodied.recording.stats import of_column
from embodied.types import Field

TIME_TOLERANCE_S = 1e-3  # float32 holds an hour to 0.0002 s
RATE_TOLERANCE = 0.01
RANGE_TOLERANCE = 0.01  # share of a field's range: a measured joint comes to stand slightly past its end
STATS_TOLERANCE = 1e-3  # share of a standard deviation
CONSTANT = 1e-6  # share of a field's range


def check_dataset(path: Path, thresholds: Thresholds = Thresholds()) -> list[Finding]:  # noqa: B008  frozen
    """Return everything wrong with the dataset at path, errors first; what cannot be read at all is one error.

    Raise DatasetError where there is no dataset at all.
    """
    if not (path / layout.INFO).exists():
        raise layout.DatasetError(path, "no such dataset" if not path.exists() else f"holds no {layout.INFO}")
    found: list[Finding] = []
    try:
        dataset = Examined(DatasetReader(path))
        found += _check_whole(dataset, thresholds)
        if misfit := list(misfits(dataset.reader)):
            found += [whole("error", "columns", layout.SPEC, line, RIGHT_SPEC) for line in misfit]
        else:
            found += _check_numbers(dataset)
            found += check_frames(dataset)
    except layout.DatasetError as error:
        file = error.path.relative_to(path) if error.path != path else path
        mend = "what else is wrong will be seen once that is mended"
        found.append(whole("error", "unreadable", file, error.reason, mend))
    return sorted(found, key=lambda f: (f.level, f.check, -1 if f.episode is None else f.episode, f.row or 0))


def _check_whole(dataset: Examined, thresholds: Thresholds) -> Iterator[Finding]:
    yield from _check_rate(dataset)
    yield from _check_instructions(dataset)
    yield from _check_counts(dataset, thresholds)
    yield from _check_duplicates(dataset)
    yield from _check_statistics(dataset)


def _check_numbers(dataset: Examined) -> Iterator[Finding]:
    fields = (("state", dataset.reader.spec.state, dataset.reader.state),)
    for group, specs, values in (*fields, ("action", dataset.reader.spec.action, dataset.reader.action)):
        yield from _check_constant(group, specs, values)
        for episode in dataset.reader.episodes:
            yield from _check_values(dataset, episode, group, values[episode.start : episode.stop])
    for episode in dataset.reader.episodes:
        yield from _check_rows(dataset, episode)
        yield from _check_times(dataset, episode)
    yield from check_motion(dataset)


def _check_rate(dataset: Examined) -> Iterator[Finding]:
    declared = dataset.reader.spec.control_hz
    if abs(dataset.fps - declared) > RATE_TOLERANCE * declared:
        found = f"fps is {dataset.fps:g}, and {layout.SPEC} says {declared:g} Hz"
        yield whole("error", "rate", layout.INFO, found, "correct whichever is wrong")


def _check_instructions(dataset: Examined) -> Iterator[Finding]:
    count = len(dataset.reader.instructions)
    for episode in dataset.reader.episodes:
        named = np.unique(dataset.reader.task_index[episode.start : episode.stop])
        if (named < 0).any() or (named >= count).any():
            found = f"task_index {named.tolist()} is not one of the {count} in {layout.TASKS}"
            yield dataset.at("error", "instruction", episode, found, drop_it(episode))
        elif any(not dataset.reader.instructions[i].strip() for i in named):
            yield dataset.at("error", "instruction", episode, "the instruction is empty", drop_it(episode))


def _check_counts(dataset: Examined, thresholds: Thresholds) -> Iterator[Finding]:
    for episode in dataset.reader.episodes:
        if (rows := episode.stop - episode.start) < thresholds.shortest:
            found = f"{rows} rows, fewer than {thresholds.shortest}"
            yield dataset.at("warning", "short", episode, found, "look at it, and drop it if it was cut off")
    tasks = Counter(episode.task or episode.instruction for episode in dataset.reader.episodes)
    for task, count in tasks.items():
        if count < thresholds.fewest:
            found = f"{task!r} has {count} episode{'s' * (count > 1)}, fewer than {thresholds.fewest}"
            yield whole("warning", "few", layout.TASKS, found, "record more, or leave the task out")


def _check_duplicates(dataset: Examined) -> Iterator[Finding]:
    first: dict[bytes, EpisodeRange] = {}
    for episode in dataset.reader.episodes:
        original = first.setdefault(digest(dataset.reader, episode), episode)
        if original is not episode:
            found = f"the same numbers as episode {original.index}"
            yield dataset.at("error", "duplicate", episode, found, drop_it(episode))


def _check_rows(dataset: Examined, episode: EpisodeRange) -> Iterator[Finding]:
    rows = slice(episode.start, episode.stop)
    belongs = dataset.reader.episode_index[rows]
    if (wrong := np.flatnonzero(belongs != episode.index)).size:
        found = f"episode_index is {belongs[wrong[0]]}"
        yield dataset.at("error", "rows", episode, found, drop_it(episode), row=int(wrong[0]))
    counted = dataset.reader.frame_index[rows]
    if (wrong := np.flatnonzero(counted != np.arange(len(counted)))).size:
        row = int(wrong[0])
        found = f"frame_index is {counted[row]} where {row} should follow: rows are missing or out of order"
        yield dataset.at("error", "gap", episode, found, drop_it(episode), row=row)
    if (early := np.flatnonzero(dataset.reader.done[rows][:-1])).size:
        found = f"next.done is set {episode.stop - episode.start - 1 - early[0]} rows before the end"
        mend = "it holds two episodes: record it again, or drop it"
        yield dataset.at("error", "rows", episode, found, mend, row=int(early[0]))


def _check_times(dataset: Examined, episode: EpisodeRange) -> Iterator[Finding]:
    times = dataset.reader.timestamp[episode.start : episode.stop].astype(np.float64)
    if len(times) < 2:
        return
    period, steps = 1.0 / dataset.fps, np.diff(times)
    usual = float(np.median(steps))
    if abs(usual - period) > max(RATE_TOLERANCE * period, TIME_TOLERANCE_S):
        rate = f"{1 / usual:.3g} Hz" if usual > 0 else "no rate"
        found = f"rows are {usual:.4g} s apart ({rate}), and fps {dataset.fps:g} means {period:.4g} s"
        yield dataset.at("error", "rate", episode, found, f"correct fps in {layout.INFO}, or resample")
        return
    if (wrong := np.flatnonzero(np.abs(steps - period) > max(0.1 * period, TIME_TOLERANCE_S))).size:
        row = int(wrong[0])
        found = f"{steps[row]:.4g} s after the row before, and {period:.4g} s at {dataset.fps:g} Hz"
        found += f" ({len(wrong)} such)" if len(wrong) > 1 else ""
        yield dataset.at("error", "gap", episode, found, drop_it(episode), row=row + 1)


def _check_constant(group: str, specs: tuple[Field, ...], values: NDArray[np.float32]) -> Iterator[Finding]:
    for field, column in zip(specs, values.T, strict=True):
        seen = column[np.isfinite(column)]
        if len(seen) > 1 and np.ptp(seen) <= CONSTANT * (field.high - field.low):
            found = f"{group} field {field.name!r} is {seen[0]:.6g} in every row"
            mend = "see that its sensor or motor works; nothing can be learnt of it"
            yield whole("warning", "constant", "data", found, mend)


def _check_values(
    dataset: Examined, episode: EpisodeRange, group: str, values: NDArray[np.float32]
) -> Iterator[Finding]:
    specs: tuple[Field, ...] = getattr(dataset.reader.spec, group)
    for field, column in zip(specs, values.T, strict=True):
        finite = np.isfinite(column)
        if (wrong := np.flatnonzero(~finite)).size:
            found = f"{group} field {field.name!r} is {column[wrong[0]]} in {len(wrong)} of {len(column)} rows"
            yield dataset.at("error", "not_finite", episode, found, drop_it(episode), row=int(wrong[0]))
        slack = RANGE_TOLERANCE * (field.high - field.low)
        outside = finite & ((column < field.low - slack) | (column > field.high + slack))
        if (wrong := np.flatnonzero(outside)).size:
            found = f"{group} field {field.name!r} is {column[wrong[0]]:.4g} {field.unit}, "
            found += f"outside of {field.low:.4g} to {field.high:.4g}, in {len(wrong)} of {len(column)} rows"
            mend = "see whether the unit or the range is wrong, or drop the episode"
            yield dataset.at("error", "range", episode, found, mend, row=int(wrong[0]))


def _check_statistics(dataset: Examined) -> Iterator[Finding]:
    wrong: dict[str, list[str]] = defaultdict(list)
    for name, values in ((layout.STATE, dataset.reader.state), (layout.ACTION, dataset.reader.action)):
        if not values.shape[1] or (actual := of_column(values)) is None:
            continue  # a robot without a state, or found already: a value is not finite
        stored = dataset.reader.stats.get(name)
        if not isinstance(stored, dict):
            wrong[name].append("is not in it")
            continue
        spread = np.maximum(actual["std"], 1e-6 * np.maximum(1.0, np.abs(actual["mean"])))
        for key in ("min", "max", "mean", "std"):
            if (reason := _difference(stored.get(key), np.asarray(actual[key]), spread)) is not None:
                wrong[name].append(f"{key} {reason}")
    for name, reasons in wrong.items():
        mend = "write them anew: embodied data merge DIR --out NEW"
        yield whole("error", "statistics", layout.STATS, f"{name}: {'; '.join(reasons)}", mend)


def _difference(stored: Any, actual: NDArray[np.float64], spread: NDArray[np.float64]) -> str | None:  # noqa: ANN401
    """Say how a stored statistic differs from the actual one, or None where it does not."""
    try:
        values = np.asarray(stored, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return "is no list of numbers"
    if values.shape != actual.shape:
        return f"has {values.size} numbers where the data has {actual.size}"
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(values - actual) <= STATS_TOLERANCE * spread + 1e-6 * np.abs(actual))
    if not off.any():
        return None
    i = int(np.argmax(off))
    return f"of field {i} is {values[i]:.6g} where the data has {actual[i]:.6g}"

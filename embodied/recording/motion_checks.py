"""Checks of how a dataset's robot moves: jumps that no robot makes, and actions that do not lead the state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embodied.recording.episodes import EpisodeRange
from embodied.recording.findings import Examined, Finding, Level, drop_it
from embodied.types import Field, RobotSpec

Array = NDArray[np.float64]

BEYOND = 1.5  # times a velocity limit: a period's average does not exceed it, a late row may double it
ABSURD = 0.5  # share of a field's range in one row, where no limit is known
LAGS = (-2, -1, 0, 1, 2, 3)  # rows by which an action may lead the state that it brings about
FEWEST_ROWS = 10  # fewer tell nothing of a lag
MOVED = 0.02  # share of a field's range below which it stood still
SURE = 0.5  # an action that leads by one row must fit this much worse before it is called shifted
SAME = 1e-6  # share of a field's range


def check_motion(dataset: Examined) -> Iterator[Finding]:
    """Yield what is wrong with the motion of each episode."""
    spec = dataset.reader.spec
    steps = {"state": _largest_step(spec, spec.state), "action": _largest_step(spec, spec.action)}
    for episode in dataset.reader.episodes:
        yield from _check_jumps(dataset, episode, "state", steps["state"])
        yield from _check_jumps(dataset, episode, "action", steps["action"])
        yield from _check_lead(dataset, episode)


def _largest_step(spec: RobotSpec, fields: tuple[Field, ...]) -> Array:
    """Return the most by which each field may change between two rows, in its unit; inf for a delta."""
    limits = {
        f.name: (f.unit, BEYOND * v / spec.control_hz)
        for f, v in zip(spec.action, spec.limits.velocity or (), strict=False)
        if f.mode == "absolute"
    }
    largest = []
    for field in fields:
        unit, step = limits.get(field.name, (field.unit, ABSURD * (field.high - field.low)))
        largest.append(step if unit == field.unit and field.mode == "absolute" else np.inf)
    return np.asarray(largest, dtype=np.float64)


def _check_jumps(dataset: Examined, episode: EpisodeRange, group: str, largest: Array) -> Iterator[Finding]:
    reader, rows = dataset.reader, slice(episode.start, episode.stop)
    values = getattr(reader, group)[rows].astype(np.float64)
    with np.errstate(invalid="ignore"):
        steps = np.abs(np.diff(values, axis=0))
    if group == "action":  # an answer to something that pushed the robot away, or of somebody else, may be far off
        swayed = reader.perturbed[rows] | reader.intervention[rows]
        steps[swayed[1:] | swayed[:-1]] = 0.0
    steps[reader.scene[rows][1:]] = 0.0  # of which each is seen some time after the one before
    # Where no limit is known the range is a guess too, and a gripper may open within a row.
    level: Level = "error" if group == "state" and reader.spec.limits.velocity else "warning"
    for i, field in enumerate(getattr(reader.spec, group)):
        if (wrong := np.flatnonzero(np.isfinite(steps[:, i]) & (steps[:, i] > largest[i]))).size:
            row = int(wrong[0])
            step = f"{steps[row, i]:.4g} {field.unit}".strip()
            found = f"{group} field {field.name!r} jumps by {step} in one row; "
            found += f"at most {largest[i]:.4g} is plausible" + (f" ({len(wrong)} such)" if len(wrong) > 1 else "")
            mend = drop_it(episode) if level == "error" else "look at it; the robot cannot follow"
            yield dataset.at(level, "jump", episode, found, mend, row=row + 1)


def _check_lead(dataset: Examined, episode: EpisodeRange) -> Iterator[Finding]:
    """Find the lag at which actions fit the states best: that of a command and what came of it is a row or more."""
    spec, rows = dataset.reader.spec, slice(episode.start, episode.stop)
    states = {(f.name, f.unit): i for i, f in enumerate(spec.state)}
    pairs = [(states.get((f.name, f.unit)), j, f) for j, f in enumerate(spec.action) if f.mode == "absolute"]
    scales = {j: field.high - field.low for _, j, field in pairs}
    state, action = dataset.reader.state[rows], dataset.reader.action[rows]
    moved = [(i, j) for i, j, _ in pairs if i is not None and np.ptp(state[:, i]) > MOVED * scales[j]]
    if len(state) < FEWEST_ROWS or not moved:
        return
    said = np.stack([action[:, j] / scales[j] for _, j in moved], axis=1)
    seen = np.stack([state[:, i] / scales[j] for i, j in moved], axis=1)
    if not (np.isfinite(said).all() and np.isfinite(seen).all()):
        return
    mend = "shift the actions back, or record again: trained on this, a policy answers with what it already sees"
    if np.abs(said - seen).max() < SAME:
        yield dataset.at("error", "lead", episode, "every action is the state of its own row", mend)
        return
    best, misfit = _best_lag(said, seen)
    if best <= 0 and misfit[best] < SURE * misfit[1]:
        level: Level = "error" if best < 0 else "warning"
        when = f"{-best} row{'s' * (best < -1)} before it" if best < 0 else "of its own row"
        yield dataset.at(level, "lead", episode, f"each action fits the state {when} better than one to come", mend)


def _best_lag(said: Array, seen: Array) -> tuple[int, dict[int, float]]:
    """Return the lag in rows at which what was said fits what was seen, and the misfit of each, on the same rows."""
    first, last = -min(LAGS), len(said) - max(LAGS)
    misfit = {lag: float(np.abs(said[first:last] - seen[first + lag : last + lag]).mean()) for lag in LAGS}
    return min(misfit, key=lambda lag: misfit[lag]), misfit

"""From several datasets to embodiments: one plan for each robot, whatever of it single datasets lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from embodied.errors import EmbodiedError, SpecMismatchError
from embodied.recording.foreign import widened
from embodied.recording.reader import DatasetReader
from embodied.types import Camera, Field, Limits, RobotSpec
from policies.layout import Label

MARGIN = 0.05  # of the range of a label's own numbers

Named = TypeVar("Named", Camera, Field)


def unite(readers: Sequence[DatasetReader]) -> dict[str, RobotSpec]:
    """Return one spec for each robot: of all cameras and fields that any of its datasets has.

    Where the datasets' own numbers are all that tells of a field's range, it is the widest of them. Raise
    SpecMismatchError, with every difference, where two datasets of one robot disagree about what both have.
    """
    found: dict[str, tuple[RobotSpec, str]] = {}
    for reader in readers:
        spec, source = reader.spec, str(reader.path)
        if spec.name in found:
            before, its = found[spec.name]
            if differences := disagreements(before, spec):
                raise SpecMismatchError(its, source, differences)
            spec, source = _union(before, spec), its
        found[spec.name] = spec, source
    return {name: spec for name, (spec, _) in found.items()}


def disagreements(one: RobotSpec, other: RobotSpec) -> list[str]:
    """List where two specs of one robot differ in what both have; what one of them lacks is no difference.

    Nor are ranges where both are derived from the rows that there happen to be.
    """
    one, other = widened(one, other), widened(other, one)
    found = [
        f"{name}: expected {getattr(one, name)}, found {getattr(other, name)}"
        for name in ("name", "version", "control_hz", "watchdog_s")
        if getattr(one, name) != getattr(other, name)
    ]
    for kind in ("cameras", "state", "action"):
        mine = {item.name: item for item in getattr(one, kind)}
        for theirs in getattr(other, kind):
            if (item := mine.get(theirs.name)) is not None and item != theirs:
                found.append(f"{kind} {theirs.name}: expected {item}, found {theirs}")
    return found


def require_part(whole: RobotSpec, part: RobotSpec, *, expected: str) -> None:
    """Raise SpecMismatchError unless part is whole, or whole less some cameras and fields."""
    found = disagreements(whole, part)
    for kind in ("cameras", "state", "action"):
        known = [item.name for item in getattr(whole, kind)]
        found += [f"{kind}: unexpected {n.name}" for n in getattr(part, kind) if n.name not in known]
    if found:
        raise SpecMismatchError(expected, part.name, found)


def labels_of(readers: Sequence[DatasetReader]) -> tuple[Label, ...]:
    """Return the labels that datasets of one robot have, ranges taken from their own numbers with a margin of 5 %.

    Raise EmbodiedError where one label has another size in another dataset.
    """
    labels = []
    for name in sorted({name for reader in readers for name in reader.labels}):
        parts = [reader.labels[name] for reader in readers if name in reader.labels]
        if len({part.shape[1] for part in parts}) > 1:
            sizes = [f"{r.path}: {r.labels[name].shape[1]}" for r in readers if name in r.labels]
            raise EmbodiedError(f"the label {name!r} has another size in each of {', '.join(sizes)}")
        known = [part for part in parts if np.isfinite(part).any(0).all()]
        if not known:
            continue  # never known
        low = np.min([np.nanmin(part, 0) for part in known], 0)
        high = np.max([np.nanmax(part, 0) for part in known], 0)
        margin = np.maximum(MARGIN * (high - low), 1e-3)
        ends = zip(low - margin, high + margin, strict=True)
        labels.append(Label(name, tuple(Field(str(i), "", float(a), float(b)) for i, (a, b) in enumerate(ends))))
    return tuple(labels)


def by_robot(readers: Iterable[DatasetReader]) -> Mapping[str, list[DatasetReader]]:
    """Return the datasets of each robot."""
    found: dict[str, list[DatasetReader]] = {}
    for reader in readers:
        found.setdefault(reader.spec.name, []).append(reader)
    return found


def _union(one: RobotSpec, other: RobotSpec) -> RobotSpec:
    one = widened(one, other)
    return replace(
        one,
        cameras=_all(one.cameras, other.cameras),
        state=_all(one.state, other.state),
        action=(action := _all(one.action, other.action)),
        limits=one.limits if len(action) == len(one.action) else Limits(),  # a policy does not go by them
        skills=tuple(dict.fromkeys([*one.skills, *other.skills])),
        tasks=tuple(dict.fromkeys([*one.tasks, *other.tasks])),
    )


def _all(mine: tuple[Named, ...], theirs: tuple[Named, ...]) -> tuple[Named, ...]:
    known = [item.name for item in mine]
    return mine + tuple([item for item in theirs if item.name not in known])

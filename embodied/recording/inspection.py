"""Describes a dataset as plain JSON: what was asked, how long, by which fields and cameras, and where it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError
from embodied.recording.episodes import EpisodeRange
from embodied.recording.foreign import camera_keys
from embodied.recording.reader import DatasetReader
from embodied.recording.soundness import require_fit
from embodied.types import Field

Description = dict[str, Any]


def describe(reader: DatasetReader) -> Description:
    """Describe a dataset; lengths are in rows, times in s, fields in their units. Needs no frames.

    Raise DatasetError where the spec beside it is another dataset's.
    """
    require_fit(reader)
    episodes, hz = reader.episodes, reader.spec.control_hz
    lengths = [episode.stop - episode.start for episode in episodes]
    return {
        "path": str(reader.path),
        "robot": reader.spec.name,
        "fps": reader.info.get("fps"),
        "control_hz": hz,
        "rows": len(reader),
        "duration_s": len(reader) / hz,
        "bytes": sum(file.stat().st_size for file in reader.path.rglob("*") if file.is_file()),
        "episodes": {
            "count": len(episodes),
            "successes": sum(episode.success for episode in episodes),
            "rows": {"min": min(lengths), "median": float(np.median(lengths)), "max": max(lengths)},
        },
        "tasks": _grouped(episodes, lambda episode: episode.task),
        "instructions": _grouped(episodes, lambda episode: episode.instruction),
        "cameras": [_camera(reader, camera.name) for camera in reader.spec.cameras],
        "state": _fields(reader.spec.state, reader.state),
        "action": _fields(reader.spec.action, reader.action),
        "labels": [_label(name, values) for name, values in sorted(reader.labels.items())],
        "flags": _flags(reader, 0, len(reader)),
        "skills": list(reader.spec.skills),
        "texts": _texts(reader.text),
        "collection": reader.collection,
    }


def describe_episode(reader: DatasetReader, index: int) -> Description:
    """Describe one episode; raise EmbodiedError where there is no such episode, DatasetError as describe does."""
    require_fit(reader)
    episode = episode_of(reader, index)
    rows = slice(episode.start, episode.stop)
    return {
        "path": str(reader.path),
        "episode": episode.index,
        "task": episode.task,
        "seed": episode.seed,
        "instruction": episode.instruction,
        "success": episode.success,
        "rows": episode.stop - episode.start,
        "duration_s": (episode.stop - episode.start) / reader.spec.control_hz,
        "dataset_rows": [episode.start, episode.stop - 1],
        "state": _fields(reader.spec.state, reader.state[rows]),
        "action": _fields(reader.spec.action, reader.action[rows]),
        "labels": [_label(name, values[rows]) for name, values in sorted(reader.labels.items())],
        "flags": _flags(reader, episode.start, episode.stop),
        "texts": _runs(reader.text[rows]),
        "came_from": _origin(reader, index),
    }


def episode_of(reader: DatasetReader, index: int) -> EpisodeRange:
    """Return an episode; raise EmbodiedError, naming those there are, where it is none of them."""
    if not 0 <= index < len(reader.episodes):
        raise EmbodiedError(f"{reader.path} has episodes 0 to {len(reader.episodes) - 1}, not {index}")
    return reader.episodes[index]


def spread(reader: DatasetReader, count: int) -> list[EpisodeRange]:
    """Return up to count episodes: as many of each task as of another where that can be, spread over the dataset."""
    queues: dict[str, list[EpisodeRange]] = {}
    for episode in reader.episodes:
        queues.setdefault(episode.task or episode.instruction, []).append(episode)
    share = -(-count // len(queues))
    picked = [queue[i] for queue in queues.values() for i in _evenly(len(queue), share)]
    return sorted((picked[i] for i in _evenly(len(picked), count)), key=lambda episode: episode.index)


def _evenly(length: int, count: int) -> list[int]:
    return [int(i) for i in np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))]


def _grouped(episodes: Iterable[EpisodeRange], key: Any) -> list[Description]:  # noqa: ANN401  episode -> its group
    groups: dict[str, list[EpisodeRange]] = {}
    for episode in episodes:
        groups.setdefault(key(episode), []).append(episode)
    return [
        {
            "name": name,
            "instructions": len({episode.instruction for episode in group}),
            "episodes": len(group),
            "successes": sum(episode.success for episode in group),
            "rows": sum(episode.stop - episode.start for episode in group),
        }
        for name, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _camera(reader: DatasetReader, name: str) -> Description:
    camera = reader.spec.camera(name)
    features = reader.info["features"]
    stored = features[camera_keys(features)[name]]["dtype"]
    return {
        "name": name,
        "height": camera.height,
        "width": camera.width,
        "fovy_deg": camera.fovy_deg,
        "stored_as": stored,
    }


def _fields(specs: Sequence[Field], values: NDArray[np.float32]) -> list[Description]:
    return [_field(field, values[:, i].astype(np.float64)) for i, field in enumerate(specs)]


def _field(field: Field, column: NDArray[np.float64]) -> Description:
    seen = column[np.isfinite(column)]
    outside = np.mean((column < field.low) | (column > field.high) | ~np.isfinite(column))
    found = {"name": field.name, "unit": field.unit, "mode": field.mode, "low": field.low, "high": field.high}
    if not len(seen):
        return {**found, "min": None, "max": None, "mean": None, "std": None, "outside": float(outside)}
    measured = {"min": seen.min(), "max": seen.max(), "mean": seen.mean(), "std": seen.std(), "outside": outside}
    return {**found, **{name: float(value) for name, value in measured.items()}}


def _label(name: str, values: NDArray[np.float32]) -> Description:
    named = np.isfinite(values).all(axis=1)
    seen = values[named]
    return {
        "name": name,
        "size": values.shape[1],
        "rows": int(named.sum()),
        "min": [float(value) for value in seen.min(axis=0)] if len(seen) else None,
        "max": [float(value) for value in seen.max(axis=0)] if len(seen) else None,
    }


def _flags(reader: DatasetReader, start: int, stop: int) -> dict[str, int]:
    """Count the rows of each flag."""
    names = ("perturbed", "intervention", "marker", "scene")
    return {name: int(getattr(reader, name)[start:stop].sum()) for name in names}


def _texts(texts: Iterable[str]) -> list[Description]:
    return [{"text": text, "rows": rows} for text, rows in Counter(t for t in texts if t).most_common()]


def _runs(texts: Sequence[str]) -> list[Description]:
    """Return the texts of an episode in their order, each with the first and last row that has it."""

    def runs() -> Iterator[Description]:
        first = 0
        for row in range(1, len(texts) + 1):
            if row == len(texts) or texts[row] != texts[first]:
                if texts[first]:
                    yield {"text": texts[first], "first_row": first, "last_row": row - 1}
                first = row

    return list(runs())


def _origin(reader: DatasetReader, index: int) -> Description | None:
    """Return where an edited dataset had the episode from, or None."""
    came_from, sources = reader.collection.get("came_from"), reader.collection.get("sources")
    if not (isinstance(came_from, list) and isinstance(sources, list) and index < len(came_from)):
        return None
    source, episode = came_from[index]
    return {"path": sources[source]["path"], "episode": episode}

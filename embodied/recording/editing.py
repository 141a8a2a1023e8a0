"""Edits datasets by whole episodes: split, merge, drop. A new dataset is written, and the old ones are left alone.

Frames of an image dataset are copied as the JPEGs that they are, unless a codec is given for videos. The new
dataset's collection.json says what was done (`edit`), what of (`sources`, with their own collection.json) and where
each episode came from (`came_from`: source and episode there).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from embodied.errors import EmbodiedError, SpecMismatchError
from embodied.output import PROGRESS_AFTER_S, output_folder
from embodied.recording import format as layout
from embodied.recording.episode import Episode
from embodied.recording.foreign import camera_keys, widened
from embodied.recording.reader import DatasetReader
from embodied.recording.sameness import digest
from embodied.recording.soundness import require_fit
from embodied.recording.writer import BrokenFrameError, DatasetWriter
from embodied.types import RobotSpec

LATE = 0.5  # of a period, by which a time may differ from that of its row


class EditError(EmbodiedError):
    """An edit that makes no sense: nothing left, nothing to do, an output in the way."""


@dataclass(frozen=True)
class Result:
    """What an edit wrote."""

    path: Path
    episodes: int
    rows: int
    notes: tuple[str, ...] = field(default=())  # what a person should know


def split(
    path: Path, outs: tuple[Path, Path], share: float, seed: int, about: Mapping[str, Any], *, video: str | None = None
) -> list[Result]:
    """Split a dataset by whole episodes: share of them, of every task and instruction alike, go to the first of outs.

    The same seed gives the same split. Raise EditError where either would have none.
    """
    require_new(outs, [path])
    numbers = DatasetReader(path, frames=False)
    first = choose(numbers, share, seed)
    second = [i for i in range(len(numbers.episodes)) if i not in first]
    if not (first and second):
        raise EditError(f"{path} has {len(numbers.episodes)} episodes: --share {share:g} leaves one side without any")
    reader = DatasetReader(path)
    about = {**about, "edit": "split", "share": share, "seed": seed}
    with ExitStack() as stack:
        folders = [stack.enter_context(output_folder(out, marker=str(layout.INFO))) for out in outs]
        return [
            replace(_write_one(reader, kept, folder, about, video=video), path=out)
            for out, folder, kept in zip(outs, folders, (sorted(first), second), strict=True)
        ]


def choose(reader: DatasetReader, share: float, seed: int) -> set[int]:
    """Choose share of a dataset's episodes at random, so that every task and every instruction gives its share.

    Episodes are put in order by task, instruction and chance, and picked at even distances from a random beginning:
    systematic sampling, which gives every stretch of the order its share, to within one episode.
    """
    rng = random.Random(seed)
    keys: defaultdict[str, float] = defaultdict(rng.random)  # so that no instruction always stands first
    order = sorted(
        reader.episodes,
        key=lambda e: (keys[f"task {e.task}"], e.task, keys[e.instruction], e.instruction, rng.random()),
    )
    count, begin = round(share * len(order)), rng.random()
    picks = [int((i * count) / len(order) + begin) for i in range(len(order) + 1)]
    return {episode.index for i, episode in enumerate(order) if picks[i + 1] > picks[i]}


def drop(
    path: Path, out: Path, dropped: Collection[int], about: Mapping[str, Any], *, video: str | None = None
) -> Result:
    """Write a dataset without the dropped episodes; raise EditError where nothing is dropped, or nothing is left."""
    require_new([out], [path])
    count = len(DatasetReader(path, frames=False).episodes)
    if unknown := sorted(set(dropped) - set(range(count))):
        raise EditError(f"{path} has episodes 0 to {count - 1}, not {', '.join(map(str, unknown))}")
    kept = [i for i in range(count) if i not in dropped]
    if not dropped or not kept:
        raise EditError(f"{path}: " + ("nothing to drop" if not dropped else f"all {count} episodes would be dropped"))
    about = {**about, "edit": "drop", "dropped": sorted(dropped)}
    with output_folder(out, marker=str(layout.INFO)) as folder:
        return replace(_write_one(DatasetReader(path), kept, folder, about, video=video), path=out)


def merge(paths: Sequence[Path], out: Path, about: Mapping[str, Any], *, video: str | None = None) -> Result:
    """Write one dataset of several of the same robot, their episodes one after another.

    Instructions that differ in case, blanks or a last full stop become one, as the first dataset spells it; a label
    that only some have is NaN in the others. Raise SpecMismatchError, with every difference of every dataset, where
    they are not of the same robot.
    """
    require_new([out], paths)
    readers = [DatasetReader(path, frames=False) for path in paths]
    for reader in readers:
        require_fit(reader)
    spec, sizes = _common(readers)
    spellings: dict[str, str] = {}

    def spelt(text: str) -> str:
        return spellings.setdefault(_unified(text), text.strip())

    about = {**about, "edit": "merge", "sources": [_source(reader) for reader in readers]}
    notes = [*_differing(readers), *_twice(readers), *_changed(readers, video)]
    with output_folder(out, marker=str(layout.INFO)) as folder:
        writer = DatasetWriter(folder, spec, label_sizes=sizes, video=video)
        came_from = []
        for source, path in enumerate(paths):
            reader = DatasetReader(path)  # one at a time: its frames may fill the memory
            for index, episode in _episodes(reader, range(len(reader.episodes)), f"merge {path.name}"):
                episode = replace(episode, instruction=spelt(episode.instruction), said=tuple(map(spelt, episode.said)))
                _add(writer, _with_labels(episode, sizes), reader, index)
                came_from.append([source, index])
        writer.finish({**about, "came_from": came_from})
    said_before = {said for reader in readers for said in reader.instructions}
    if respelt := sorted(said_before - set(spellings.values())):
        notes.append(f"instructions written as another spells them: {', '.join(map(repr, respelt))}")
    return Result(out, len(came_from), sum(map(len, readers)), tuple(notes))


def _write_one(
    reader: DatasetReader, kept: Sequence[int], folder: Path, about: Mapping[str, Any], *, video: str | None
) -> Result:
    require_fit(reader)
    sizes = {name: values.shape[1] for name, values in reader.labels.items()}
    writer = DatasetWriter(folder, reader.spec, label_sizes=sizes, video=video)
    rows = 0
    for index, episode in _episodes(reader, kept, str(about["edit"])):
        _add(writer, episode, reader, index)
        rows += len(episode)
    writer.finish({**about, "sources": [_source(reader)], "came_from": [[0, index] for index in kept]})
    return Result(folder, len(kept), rows, tuple(_changed([reader], video)))


def _episodes(reader: DatasetReader, indices: Sequence[int], verb: str) -> Iterator[tuple[int, Episode]]:
    _require_rate(reader, indices)
    for index in tqdm(indices, unit="episode", desc=verb, delay=PROGRESS_AFTER_S):
        yield index, reader.episode(index)


def _add(writer: DatasetWriter, episode: Episode, reader: DatasetReader, index: int) -> None:
    """Write an episode; raise DatasetError, naming where reader has it, for a picture that cannot be decoded."""
    try:
        writer.add(episode)
    except BrokenFrameError as error:
        reason = f"{error.reason}; drop the episode: embodied data drop --episodes {index}"
        raise reader.frame_error(error.camera, reader.episodes[index].start + error.row, reason) from error


def _require_rate(reader: DatasetReader, indices: Sequence[int]) -> None:
    """Raise EditError where writing would give a row another time than it has: the writer goes by the rate alone."""
    hz = reader.spec.control_hz
    for index in indices:
        of = reader.episodes[index]
        times = reader.timestamp[of.start : of.stop].astype(np.float64)
        if (wrong := np.flatnonzero(np.abs(times - times[0] - np.arange(len(times)) / hz) > LATE / hz)).size:
            row = int(wrong[0])
            raise EditError(
                f"{reader.path}: episode {index} row {row} is at {times[row]:.3f} s, and at {hz:g} Hz it would be "
                f"written at {row / hz:.3f} s; drop the episode, or mend what embodied data check finds"
            )


def _source(reader: DatasetReader) -> dict[str, Any]:
    return {"path": str(reader.path.resolve()), "episodes": len(reader.episodes), "collection": reader.collection}


def require_new(outs: Sequence[Path], sources: Sequence[Path]) -> None:
    """Raise EditError for an output that is there already, twice the same, or within a source."""
    for i, out in enumerate(outs):
        if out.exists() or out.is_symlink():
            raise EditError(f"{out} exists already; choose another --out")
        if out.resolve() in [other.resolve() for other in outs[:i]]:
            raise EditError(f"--out names {out} twice")
        if inside := [path for path in sources if path.resolve() in out.resolve().parents]:
            raise EditError(f"{out} is within {inside[0]}, which is left alone; choose another --out")


def _common(readers: Sequence[DatasetReader]) -> tuple[RobotSpec, dict[str, int]]:
    """Return the spec that holds for all, with the tasks and skills of each, and the sizes of all labels.

    Ranges that were derived from the rows of each are the widest.
    """
    first, sizes, found = readers[0], dict[str, int](), list[str]()
    spec = reduce(widened, (reader.spec for reader in readers))
    for reader in readers:
        found += [f"{reader.path}: {line}" for line in spec.differences(widened(reader.spec, spec))]
        if (fps := reader.info.get("fps")) != first.info.get("fps"):
            found.append(f"{reader.path}: fps: expected {first.info.get('fps')}, found {fps}")
        for name, values in reader.labels.items():
            if (size := values.shape[1]) != sizes.setdefault(name, size):
                found.append(f"{reader.path}: label {name!r}: expected {sizes[name]} numbers, found {size}")
    if found:
        raise SpecMismatchError(str(first.path), "the robot of the others", found)
    tasks, skills = (
        tuple(dict.fromkeys(chain.from_iterable(getattr(reader.spec, name) for reader in readers)))
        for name in ("tasks", "skills")
    )
    return replace(spec, tasks=tasks, skills=skills), sizes


def _with_labels(episode: Episode, sizes: Mapping[str, int]) -> Episode:
    missing = {name: np.full((len(episode), size), np.nan, np.float32) for name, size in sizes.items()}
    return replace(episode, labels={**missing, **episode.labels})


def _unified(instruction: str) -> str:
    return " ".join(instruction.split()).rstrip(".").casefold()


def _differing(readers: Sequence[DatasetReader]) -> Iterator[str]:
    for reader in readers[1:]:
        if reader.spec.limits != readers[0].spec.limits:
            yield f"the limits of {reader.path} differ; those of {readers[0].path} are written"


def _twice(readers: Sequence[DatasetReader]) -> Iterator[str]:
    seen: set[bytes] = set()
    twice = 0
    for reader in readers:
        for episode in reader.episodes:
            twice += (key := digest(reader, episode)) in seen
            seen.add(key)
    if twice:
        yield f"{twice} episodes are there more than once; embodied data check names them"


def _changed(readers: Sequence[DatasetReader], video: str | None) -> Iterator[str]:
    """Name what the new dataset will not have as it was: columns that this project does not know, videos."""
    for reader in readers:
        features = reader.info["features"]
        sizes = {name: values.shape[1] for name, values in reader.labels.items()}
        keys = camera_keys(features)
        cameras = {keys[camera.name] for camera in reader.spec.cameras}
        if lost := sorted(set(features) - set(layout.features(reader.spec, sizes)) - cameras):
            yield f"not copied from {reader.path}: {', '.join(lost)}"
        if video is None and any(features[key]["dtype"] == "video" for key in cameras):
            yield f"the videos of {reader.path} are written as JPEGs; --video CODEC writes videos"

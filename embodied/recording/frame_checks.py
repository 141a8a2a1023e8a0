"""Checks of a dataset's pictures: cameras that froze, saw nothing, or whose videos end before the rows do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from embodied.output import PROGRESS_AFTER_S
from embodied.recording import format as layout
from embodied.recording.episodes import EpisodeRange
from embodied.recording.findings import Examined, Finding, drop_it
from embodied.recording.foreign import camera_keys
from embodied.recording.sameness import digest
from embodied.types import Camera, Frame

LOOKS = 5  # frames of an episode that are decoded, from the first to the last
DARK = 4.0  # mean of 0..255 below which a frame is black
FLAT = 1.0  # standard deviation below which it is of one colour
CHANGED = 12  # levels by which a pixel differs when more than compression changed it
CHANGED_SHARE = 2e-4  # of the pixels: 3 of 128 x 128
STALLED_S = 1.0
STALLED_ROWS = 5
MOVED = 0.02  # share of a field's range


def check_frames(dataset: Examined) -> Iterator[Finding]:
    """Yield what is wrong with the pictures of each episode; needs the frames in memory."""
    firsts: dict[bytes, EpisodeRange] = {}
    spec = dataset.reader.spec
    for episode in tqdm(dataset.reader.episodes, unit="episode", desc="frames", delay=PROGRESS_AFTER_S):
        seen = bool(spec.cameras)
        for camera in spec.cameras:
            frames, broken = _look(dataset, episode, camera)
            found = broken or list(_judge(dataset, episode, camera, frames))
            seen &= not found
            yield from found
        if seen:
            yield from _check_first(dataset, episode, firsts)


def _look(dataset: Examined, episode: EpisodeRange, camera: Camera) -> tuple[Sequence[Frame], list[Finding]]:
    """Return some frames of an episode, or why there are none: broken, of another size, not in the video."""
    reader = dataset.reader
    try:
        return [*reader.frames(camera.name, looks(episode))], []
    except layout.DatasetError as error:
        file = error.path.relative_to(reader.path)
        found = f"{camera.name!r} cannot be seen: {error.reason}"
        return [], [Finding("error", "frame", str(file), episode.index, None, found, drop_it(episode))]


def looks(episode: EpisodeRange, count: int = LOOKS) -> list[int]:
    """Return count rows of an episode, spread from its first to its last; fewer where it has fewer."""
    rows = np.linspace(episode.start, episode.stop - 1, count).round().astype(int)
    return [int(row) for row in np.unique(rows)]


def _judge(dataset: Examined, episode: EpisodeRange, camera: Camera, frames: Sequence[Frame]) -> Iterator[Finding]:
    if empty := [frame for frame in frames if frame.std() < FLAT or frame.mean() < DARK]:
        kind = "black" if empty[0].mean() < DARK else "of one colour"
        many = "in all of it" if len(empty) == len(frames) else f"in {len(empty)} of {len(frames)} frames looked at"
        yield dataset.at("error", "black", episode, f"{camera.name!r} is {kind} {many}", drop_it(episode))
    elif len(frames) > 1 and not any(_differ(frames[0], frame) for frame in frames[1:]) and _moves(dataset, episode):
        found = f"{camera.name!r} shows the same picture all along, and the robot moves"
        yield dataset.at("error", "frozen", episode, found, drop_it(episode))
    elif (run := _stalled(dataset, episode, camera)) is not None:
        found = f"{camera.name!r} shows the same picture in rows {run[0]} to {run[1]}, and the robot moves"
        yield dataset.at("warning", "frozen", episode, found, "see that its camera keeps up, or drop it", row=run[0])


def _differ(first: Frame, second: Frame) -> bool:
    changed = np.abs(first.astype(np.int16) - second).max(axis=2) > CHANGED
    return bool(changed.mean() > CHANGED_SHARE)


def _moves(dataset: Examined, episode: EpisodeRange, first: int = 0, last: int | None = None) -> bool:
    """Whether a field of the state changed by more than noise from row first to row last, within the episode."""
    stop = episode.stop if last is None else episode.start + last + 1
    state = dataset.reader.state[episode.start + first : stop]
    ranges = np.array([field.high - field.low for field in dataset.reader.spec.state])
    return bool((np.ptp(state, axis=0) > MOVED * ranges).any())


def _stalled(dataset: Examined, episode: EpisodeRange, camera: Camera) -> tuple[int, int] | None:
    """Return the longest run of rows, first and last, with the very same JPEG while the robot moved."""
    features = dataset.reader.info["features"]
    if features[camera_keys(features)[camera.name]]["dtype"] != "image":
        return None  # a video repeats no bytes
    jpegs = [dataset.reader.jpeg(camera.name, row) for row in range(episode.start, episode.stop)]
    bounds = [i for i in range(1, len(jpegs)) if not np.array_equal(jpegs[i - 1], jpegs[i])]
    runs = zip([0, *bounds], [*bounds, len(jpegs)], strict=True)
    first, stop = max(runs, key=lambda run: run[1] - run[0])
    long = stop - first >= max(STALLED_ROWS, STALLED_S * dataset.fps)
    return (first, stop - 1) if long and _moves(dataset, episode, first, stop - 1) else None


def _check_first(dataset: Examined, episode: EpisodeRange, firsts: dict[bytes, EpisodeRange]) -> Iterator[Finding]:
    """Yield an episode that begins with the very picture of another, whose numbers are others."""
    reader = dataset.reader
    key = b"".join(reader.frame(camera.name, episode.start).tobytes() for camera in reader.spec.cameras)
    other = firsts.setdefault(key, episode)
    if other is not episode and digest(reader, other) != digest(reader, episode):
        found = f"begins with the same pictures as episode {other.index}"
        yield dataset.at("warning", "duplicate", episode, found, "look at both, and drop one if they are the same")

"""Writes a recording: data files and videos as episodes come, then the tables and files under meta/."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embodied.recording import format as layout
from embodied.recording import jpeg, stats
from embodied.recording.episode import Episode
from embodied.recording.episodes import instructions_table
from embodied.recording.tables import write_table
from embodied.recording.video_writer import CODECS, Filmed, VideoWriter
from embodied.types import Frame, RobotSpec

STATISTICS_FRAMES = 16  # of an episode and a camera whose frames are pictures; a video's are all counted


class BrokenFrameError(ValueError):
    """A picture of an episode that cannot be decoded; row is within the episode."""

    def __init__(self, camera: str, row: int, reason: str) -> None:
        super().__init__(f"{camera!r} of row {row}: {reason}")
        self.camera, self.row, self.reason = camera, row, reason


@dataclass(frozen=True)
class _Placed:
    """Where an episode went, and its statistics by feature."""

    episode: Episode
    index: int
    first_row: int
    task_index: NDArray[np.int64]  # (n,)
    filmed: Mapping[str, Filmed]  # by feature
    stats: Mapping[str, Any]


class DatasetWriter:
    """Writes episodes in the order in which they are added; until finish() there is no info.json, so no dataset.

    video is a codec of CODECS for videos in place of JPEGs. Raises DatasetError where path already holds a dataset.
    """

    def __init__(
        self,
        path: Path,
        spec: RobotSpec,
        *,
        label_sizes: Mapping[str, int] | None = None,
        episodes_per_file: int = 50,
        video: str | None = None,
    ) -> None:
        if (path / layout.INFO).exists():
            raise layout.DatasetError(path, "already holds a dataset")
        if video is not None and video not in CODECS:
            raise layout.DatasetError(path, f"no codec {video!r}; there are {sorted(CODECS)}")
        self._path, self._spec, self._episodes_per_file = path, spec, episodes_per_file
        self._label_sizes = dict(label_sizes or {})
        self._features = layout.features(spec, self._label_sizes, visual="video" if video else "image")
        self._schema = layout.arrow_schema(self._features)
        self._waiting: list[_Placed] = []
        self._waiting_bytes = 0  # of their frames
        self._episode_rows: list[dict[str, Any]] = []
        self._instructions: dict[str, int] = {}
        self._rows = 0
        self._files = 0
        counted = [name for name, of in self._features.items() if of["dtype"] not in ("string", *layout.VISUAL)]
        self._numbers = {name: stats.ColumnStatistics() for name in counted}
        self._pictures = {camera.name: stats.ImageStatistics() for camera in spec.cameras}
        self._videos: dict[str, VideoWriter] = {}
        for camera in spec.cameras if video else ():
            key = layout.IMAGE_PREFIX + camera.name
            self._videos[camera.name] = VideoWriter(path, key, camera, fps=spec.control_hz, codec=video or "")

    def add(self, episode: Episode) -> None:
        """Append an episode.

        Raise ValueError if it lacks a camera or a label of the dataset, or has rows too few, BrokenFrameError for a
        picture that cannot be decoded where it has to be, and DatasetError, naming the file, where the disk is full.
        """
        for camera in self._spec.cameras:
            if len(episode.frames.get(camera.name, ())) != len(episode):
                raise ValueError(f"episode {episode.task} seed {episode.seed} lacks frames of {camera.name!r}")
        for name in self._label_sizes:
            if name not in episode.labels:
                raise ValueError(f"episode {episode.task} seed {episode.seed} lacks the label {name!r}")
        with self._no_partial_left():
            self._add(episode)

    def finish(self, collection: Mapping[str, Any] | None = None) -> None:
        """Write what is waiting and everything under meta/; collection says how the recording was made.

        What it was made from can then be removed: all is on the disk, and was before info.json, which vouches for it.
        """
        with self._no_partial_left():
            if self._waiting:
                self._flush()
            if not self._episode_rows:
                raise layout.DatasetError(self._path, "no episode to write")
            for name, video in self._videos.items():
                video.close()
                self._features[layout.IMAGE_PREFIX + name]["info"] = video.about()
            write_table(self._path / layout.EPISODES_PATH.format(chunk_index=0, file_index=0), self._episodes_table())
            write_table(self._path / layout.TASKS, instructions_table(self._instructions))
        layout.write_json(self._path / layout.STATS, self._statistics())
        layout.write_json(self._path / layout.SPEC, self._spec.to_dict())
        layout.write_json(self._path / layout.COLLECTION, collection or {})
        layout.all_to_disk(self._path)
        layout.write_json(self._path / layout.INFO, self._info())
        layout.all_to_disk(self._path)

    def _add(self, episode: Episode) -> None:
        index = len(self._episode_rows) + len(self._waiting)
        for text in (episode.instruction, *episode.said):
            self._instructions.setdefault(text, len(self._instructions))
        task_index = np.array([self._instructions[text] for text in episode.instructions], dtype=np.int64)
        filmed: dict[str, Filmed] = {}
        found: dict[str, Any] = {}
        for camera in self._spec.cameras:
            key = layout.IMAGE_PREFIX + camera.name
            where, found[key] = self._take_frames(camera.name, episode.frames[camera.name])
            filmed |= {key: where} if where else {}
        placed = _Placed(episode, index, self._rows, task_index, filmed, found)
        self._count_numbers(placed, found)
        self._waiting.append(placed)
        self._rows += len(episode)
        if not self._videos:
            self._waiting_bytes += sum(len(data) for jpegs in episode.frames.values() for data in jpegs)
        if len(self._waiting) == self._episodes_per_file or self._waiting_bytes >= layout.DATA_FILE_SIZE_MB * 1e6:
            self._flush()

    @contextlib.contextmanager
    def _no_partial_left(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for video in self._videos.values():
                video.discard()
            raise

    def _take_frames(self, camera: str, pictures: Sequence[bytes]) -> tuple[Filmed | None, dict[str, Any]]:
        """Film an episode's frames where there are videos, and return where they went and their statistics."""
        seen = stats.ImageStatistics()

        def counted(row: int) -> Frame:
            try:
                frame = jpeg.decode(np.frombuffer(pictures[row], np.uint8))
            except ValueError as error:
                raise BrokenFrameError(camera, row, str(error)) from error
            seen.add_frame(frame)
            return frame

        where = None
        if camera in self._videos:
            where = self._videos[camera].add(map(counted, range(len(pictures))))
        else:
            for row in np.unique(np.linspace(0, len(pictures) - 1, STATISTICS_FRAMES).round().astype(int)):
                counted(int(row))
        self._pictures[camera].merge(seen)
        return where, seen.result()

    def _count_numbers(self, placed: _Placed, found: dict[str, Any]) -> None:
        columns = self._columns(placed)
        for name, numbers in self._numbers.items():
            numbers.add(columns[name])
            found[name] = stats.of_column(columns[name])

    def _flush(self) -> None:
        chunk_index, file_index = divmod(self._files, layout.FILES_PER_CHUNK)
        tables = [self._table(placed) for placed in self._waiting]
        path = self._path / layout.DATA_PATH.format(chunk_index=chunk_index, file_index=file_index)
        write_table(path, pa.concat_tables(tables), image_columns=0 if self._videos else len(self._spec.cameras))
        for placed in self._waiting:
            self._episode_rows.append(_episode_row(placed, chunk_index, file_index))
        self._waiting.clear()
        self._waiting_bytes = 0
        self._files += 1

    def _table(self, placed: _Placed) -> pa.Table:
        columns = self._columns(placed)
        arrays = [_arrow(columns[f.name], f.type) for f in self._schema]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _columns(self, placed: _Placed) -> dict[str, Any]:
        episode, n = placed.episode, len(placed.episode)
        frame_index = np.arange(n, dtype=np.int64)
        return {
            **{layout.IMAGE_PREFIX + name: data for name, data in episode.frames.items()},
            **{layout.LABEL_PREFIX + name: values for name, values in episode.labels.items()},
            layout.STATE: episode.state,
            layout.ACTION: episode.action,
            "timestamp": (frame_index / self._spec.control_hz).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.full(n, placed.index, dtype=np.int64),
            "index": placed.first_row + frame_index,
            "task_index": placed.task_index,
            "perturbed": episode.perturbed,
            "intervention": episode.intervention,
            "marker": episode.marker,
            "scene": episode.scene,
            "action.text": list(episode.text),
            "next.done": episode.done,
            "next.success": episode.success,
        }

    def _statistics(self) -> dict[str, Any]:
        found = {layout.IMAGE_PREFIX + name: pictures.result() for name, pictures in self._pictures.items()}
        numbers = {name: numbers.result() for name, numbers in self._numbers.items()}
        return found | {name: result for name, result in numbers.items() if result is not None}

    def _episodes_table(self) -> pa.Table:
        names = list(dict.fromkeys(name for row in self._episode_rows for name in row))
        return pa.table({name: [row.get(name) for row in self._episode_rows] for name in names})

    def _info(self) -> dict[str, Any]:
        hz = self._spec.control_hz
        return {
            "codebase_version": layout.CODEBASE_VERSION,
            "robot_type": self._spec.name,
            "total_episodes": len(self._episode_rows),
            "total_frames": self._rows,
            "total_tasks": len(self._instructions),
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": layout.DATA_FILE_SIZE_MB,
            "video_files_size_in_mb": layout.VIDEO_FILE_SIZE_MB,
            "fps": int(hz) if float(hz).is_integer() else hz,
            "splits": {"train": f"0:{len(self._episode_rows)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._videos else None,
            "features": self._features,
        }


def _arrow(column: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401  a numpy array, a tuple of JPEGs, or text
    if pa.types.is_struct(kind):
        paths = pa.nulls(len(column), pa.string())
        return pa.StructArray.from_arrays([pa.array(column, pa.binary()), paths], fields=list(kind))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), kind.list_size)
    return pa.array(column, kind)


def _episode_row(placed: _Placed, chunk_index: int, file_index: int) -> dict[str, Any]:
    episode = placed.episode
    row = {
        "episode_index": placed.index,
        "tasks": list(dict.fromkeys((episode.instruction, *episode.said))),
        "length": len(episode),
        "data/chunk_index": chunk_index,
        "data/file_index": file_index,
        "dataset_from_index": placed.first_row,
        "dataset_to_index": placed.first_row + len(episode),
    }
    for key, where in placed.filmed.items():
        row |= {f"videos/{key}/{name}": value for name, value in vars(where).items()}
    for key, of in placed.stats.items():
        row |= {f"stats/{key}/{name}": value for name, value in (of or {}).items()}
    ours = {"task": episode.task, "seed": episode.seed, "success": episode.succeeded}
    return {**row, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0, **ours}

"""Reads a LeRobot v3.0 dataset: numbers as numpy columns, frames from disk when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embodied.errors import UnknownNameError
from embodied.recording import format as layout
from embodied.recording import stats
from embodied.recording.episode import Episode
from embodied.recording.episodes import EpisodeRange, footage_of, read_episode_rows, read_instructions
from embodied.recording.foreign import camera_keys, derive_spec
from embodied.recording.frames import FrameStore, Pictures, Videos, gather
from embodied.recording.tables import array_of, read_table, texts_of
from embodied.types import Frame, RobotSpec


class DatasetReader:
    """A dataset; columns have one entry a row, n rows in all, and are in memory. Frames are not.

    What lerobot or another program wrote lacks some of our columns: its spec is derived (see derive_spec), nothing in
    it was perturbed, and without `next.success` every episode is a demonstration that succeeded.
    Reading frames is safe from several threads, and after a fork in which no thread was reading one.
    Raises DatasetError, naming file and reason, for a dataset that is absent, incomplete or of another version. What
    is whole can be looked into, however wrong its numbers: require_sound says whether to learn from it.
    """

    def __init__(self, path: Path | str, *, frames: bool = True) -> None:
        self.path = Path(path)
        self.info = _read_info(self.path)
        self._features: dict[str, Any] = self.info["features"]
        self._files = _data_files(self.path)
        self._read_columns(self._read_table())
        keys = camera_keys(self._features)
        videos = [key for key in keys.values() if self._features[key]["dtype"] == "video"]
        rows = read_episode_rows(self.path, self.info, videos)
        self.instructions = read_instructions(self.path)
        self._complete(rows)
        self.episodes = tuple(self._episode_range(row) for row in rows)
        self.stats = self._read_stats()
        self.spec = self._read_spec()
        self.collection = _read_optional(self.path / layout.COLLECTION)
        self._stores: dict[str, FrameStore] = {}
        for name, key in keys.items() if frames else ():
            if key in videos:
                footage = footage_of(self.path, self.info, rows, key)
                self._stores[name] = Videos(footage, self.timestamp, self.spec.control_hz, self.told)
            else:
                self._stores[name] = Pictures(self._files, key, self.told)

    def __len__(self) -> int:
        return len(self.state)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras whose frames can be read."""
        return tuple(self._stores)

    def instruction(self, index: int) -> str:
        """Return the instruction of a row."""
        return self.instructions[int(self.task_index[index])]

    def frame(self, camera: str, index: int) -> Frame:
        """Return the frame of a row, RGB uint8 (H, W, 3).

        Raise DatasetError, naming file, row and episode, if it cannot be decoded; UnknownNameError for a bad camera.
        """
        return np.asarray(self.frames(camera, [index])[0])

    def frames(self, camera: str, rows: Sequence[int] | NDArray[np.int64], *, threads: int = 1) -> NDArray[np.uint8]:
        """Return the frames of rows in their order, RGB uint8 (rows, H, W, 3); cheaper than one by one.

        threads decode at once; what lies together on disk is read together. Raise as frame does.
        """
        store = self._store(camera)
        return gather(store, self.spec.camera(camera), [self._row(row) for row in rows], threads)

    def jpeg(self, camera: str, index: int) -> NDArray[np.uint8]:
        """Return a row's frame compressed, uint8 (bytes,): as it is on disk, JPEG or PNG, or else a video's as JPEG."""
        return self._store(camera).encoded(self._row(index))

    def column(self, feature: str) -> NDArray[Any]:
        """Return any feature's numbers, (n, *shape) or (n,) of a single one, read from disk; text as objects (n,).

        Raise UnknownNameError for a feature that has none.
        """
        numbers = [name for name, of in self._features.items() if of["dtype"] not in layout.VISUAL]
        if feature not in numbers:
            raise UnknownNameError("feature", feature, str(self.path), numbers)
        return self._column(pa.concat_tables([read_table(file, [feature]) for file in self._files]), feature)

    def episode(self, index: int) -> Episode:
        """Return an episode as a writer takes it; needs the frames. A video's are compressed once more, as JPEG."""
        of = self.episodes[index]
        rows = slice(of.start, of.stop)
        done, success = self.done[rows].copy(), self.success[rows].copy()
        success[-1] = of.success  # the verdict, which others' recordings may give at an earlier row
        done[-1] |= of.success
        said = tuple(self.instructions[i] for i in self.task_index[rows].tolist())
        return Episode(
            task=of.task,
            seed=of.seed,
            instruction=of.instruction,
            frames={name: self._encoded(name, of) for name in self._stores},
            state=self.state[rows],
            action=self.action[rows],
            perturbed=self.perturbed[rows],
            intervention=self.intervention[rows],
            marker=self.marker[rows],
            scene=self.scene[rows],
            text=self.text[rows],
            labels={name: values[rows] for name, values in self.labels.items()},
            done=done,
            success=success,
            said=said if any(text != of.instruction for text in said) else (),
        )

    def frame_error(self, camera: str, row: int, reason: str) -> layout.DatasetError:
        """Return the error of a row's frame, which names the file that it is in, row and episode."""
        return self._store(camera).error(row, reason)

    def told(self, row: int) -> str:
        """Return where a person finds a row: its number, its episode, its frame in that."""
        episode = int(self.episode_index[row])
        return f"row {row} (episode {episode}, frame {int(self.frame_index[row])})"

    def file_of(self, row: int) -> Path:
        """Return the data file that a row is in."""
        return self._files[int(np.searchsorted(self._file_starts, row, side="right")) - 1]

    def _read_table(self) -> pa.Table:
        """Read what is kept in memory of every file."""
        numbers = [
            name
            for name, feature in self._features.items()
            if name in _KEPT or (name.startswith(layout.LABEL_PREFIX) and feature["dtype"] not in layout.VISUAL)
        ]
        tables = [read_table(file, numbers) for file in self._files]
        self._file_starts = np.cumsum([0] + [len(table) for table in tables])
        if (found := int(self._file_starts[-1])) != self.info["total_frames"]:
            raise layout.DatasetError(self.path / "data", f"truncated: {found} rows of {self.info['total_frames']}")
        return pa.concat_tables(tables, promote_options="permissive")

    def _read_columns(self, table: pa.Table) -> None:
        n = len(table)
        self.state = self._vectors(table, layout.STATE)  # float32 (n, state fields)
        self.action = self._vectors(table, layout.ACTION)  # float32 (n, action fields)
        self.perturbed = self._flags(table, "perturbed")  # bool (n,)
        self.intervention = self._flags(table, "intervention")  # bool (n,)
        self.marker = self._flags(table, "marker")  # bool (n,)
        self.scene = self._flags(table, "scene")  # bool (n,)
        self.done = self._flags(table, "next.done")  # bool (n,)
        self.success = self._flags(table, "next.success")  # bool (n,)
        # float32 (n,) s since the episode began: ours are frame_index / fps, not measured
        self.timestamp = self._column(table, "timestamp").astype(np.float32, copy=False)
        self.frame_index = self._column(table, "frame_index")  # int64 (n,) row within the episode
        self.episode_index = self._column(table, "episode_index")  # int64 (n,)
        self.task_index = self._column(table, "task_index")  # int64 (n,) into instructions
        text = table.schema.names.count("action.text")
        self.text: tuple[str, ...] = texts_of(table.column("action.text")) if text else ("",) * n  # n
        self.labels = {  # name -> float32 (n, size), NaN where the simulator named none
            name.removeprefix(layout.LABEL_PREFIX): self._vectors(table, name)
            for name in table.schema.names
            if name.startswith(layout.LABEL_PREFIX)
        }

    def _complete(self, rows: list[dict[str, Any]]) -> None:
        """Check that rows are those of their episodes, and mark the ends that a foreign dataset leaves out."""
        starts = np.array([row["dataset_from_index"] for row in rows])
        lengths = np.diff([*starts, len(self)])
        expected = np.repeat(np.arange(len(rows)), lengths)
        if (wrong := expected != self.episode_index).any():
            row = int(np.argmax(wrong))
            raise layout.DatasetError(
                self.file_of(row), f"row {row} is of episode {self.episode_index[row]}; meta says {expected[row]}"
            )
        if (unknown := (self.task_index < 0) | (self.task_index >= len(self.instructions))).any():
            row = int(np.argmax(unknown))
            raise layout.DatasetError(
                self.file_of(row), f"row {row} has task_index {self.task_index[row]} of {len(self.instructions)}"
            )
        last = starts + lengths - 1
        if "next.done" not in self._features:
            self.done[last] = True
        if "next.success" not in self._features:
            self.success[last] = True

    def _episode_range(self, row: dict[str, Any]) -> EpisodeRange:
        start, stop, index = row["dataset_from_index"], row["dataset_to_index"], row["episode_index"]
        instruction = row["tasks"][0] if row["tasks"] else self.instruction(start)
        success = row.get("success")
        return EpisodeRange(
            index=index,
            start=start,
            stop=stop,
            task=instruction if row.get("task") is None else row["task"],
            seed=index if row.get("seed") is None else row["seed"],
            instruction=instruction,
            success=bool(self.success[start:stop].any()) if success is None else success,
        )

    def _read_stats(self) -> dict[str, Any]:
        """Read meta/stats.json; what is absent of state and action is computed."""
        found = _read_optional(self.path / layout.STATS)
        for key, values in ((layout.STATE, self.state), (layout.ACTION, self.action)):
            if key in self._features and key not in found and (computed := stats.of_column(values)) is not None:
                found[key] = computed
        return found

    def _read_spec(self) -> RobotSpec:
        file = self.path / layout.SPEC
        if not file.exists():
            return derive_spec(self.info, self.state, self.action)
        try:
            return RobotSpec.from_dict(layout.read_json(file))
        except (KeyError, TypeError, ValueError) as error:
            raise layout.DatasetError(file, f"not a robot's spec ({error})") from error

    def _store(self, camera: str) -> FrameStore:
        if camera not in self._stores:
            raise UnknownNameError("camera", camera, str(self.path), self._stores)
        return self._stores[camera]

    def _row(self, index: int | np.integer[Any]) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return int(index)

    def _encoded(self, camera: str, of: EpisodeRange) -> tuple[bytes, ...]:
        return tuple(bytes(self.jpeg(camera, row)) for row in range(of.start, of.stop))

    def _vectors(self, table: pa.Table, name: str) -> NDArray[np.float32]:
        """Return a column as float32 (n, numbers a row); (n, 0) where the dataset has no such feature."""
        if name not in table.schema.names:
            return np.zeros((len(table), 0), np.float32)
        return self._column(table, name).reshape(len(table), -1).astype(np.float32, copy=False)

    def _flags(self, table: pa.Table, name: str) -> NDArray[np.bool_]:
        """Return a column that others' recordings lack: nothing happened in them that it would tell of."""
        if name not in table.schema.names:
            return np.zeros(len(table), np.bool_)
        return self._column(table, name).reshape(len(table)).astype(np.bool_)

    def _column(self, table: pa.Table, name: str) -> NDArray[Any]:
        shape = [] if (declared := self._features[name]["shape"]) == [1] else declared
        try:
            return array_of(table.column(name), shape)
        except ValueError as error:
            reason = f"column {name!r} is not {declared} in every row, as meta/info.json says ({error})"
            raise layout.DatasetError(self._files[0].parent, reason) from error


_KEPT = (
    layout.STATE, layout.ACTION, "perturbed", "intervention", "marker", "scene", "next.done", "next.success",
    "timestamp", "frame_index", "episode_index", "task_index", "action.text",
)  # fmt: skip


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise layout.DatasetError(path, "no such dataset")
    info = layout.read_json(path / layout.INFO)
    if (found := info.get("codebase_version")) != layout.CODEBASE_VERSION:
        older = str(found).startswith(("v1.", "v2."))
        way = f"; lerobot converts it: {layout.CONVERTER}" if older else ", which lerobot 0.4 writes"
        raise layout.DatasetError(path / layout.INFO, f"version {found}; this reads {layout.CODEBASE_VERSION}{way}")
    for key in ("features", "total_frames", "total_episodes", "fps"):
        if key not in info:
            raise layout.DatasetError(path / layout.INFO, f"no {key!r}")
    needed = [layout.ACTION, "timestamp", "frame_index", "episode_index", "task_index"]
    if missing := [name for name in needed if name not in info["features"]]:
        raise layout.DatasetError(path / layout.INFO, f"no feature {missing}; it has {sorted(info['features'])}")
    return info


def _data_files(path: Path) -> list[Path]:
    files = sorted((path / "data").glob("chunk-*/file-*.parquet"))
    if not files:
        raise layout.DatasetError(path / "data", "no data files")
    return files


def _read_optional(path: Path) -> dict[str, Any]:
    return layout.read_json(path) if path.exists() else {}

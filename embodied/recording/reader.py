"""Reads a recording into memory: numbers as numpy columns, frames as JPEG bytes that are decoded when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embodied.errors import UnknownNameError
from embodied.recording import format as layout
from embodied.recording import jpeg
from embodied.recording.episode import Episode
from embodied.types import Frame, RobotSpec


@dataclass(frozen=True)
class EpisodeRange:
    """An episode's place in the columns: rows start to stop, stop excluded."""

    index: int
    start: int
    stop: int
    task: str
    seed: int
    instruction: str
    success: bool


class DatasetReader:
    """A recording in memory; columns have one entry a row, n rows in all.

    `frame` is safe from several threads and after a fork: nothing is opened or cached after construction.
    Raises DatasetError, naming file and reason, for a recording that is absent, incomplete or of another version.
    """

    def __init__(self, path: Path | str, *, frames: bool = True) -> None:
        self.path = Path(path)
        self.info = _read_info(self.path)
        self.spec = _read_spec(self.path)
        self.stats = layout.read_json(self.path / layout.STATS)
        self.collection = layout.read_json(self.path / layout.COLLECTION)
        self.instructions = _read_instructions(self.path)
        self.episodes = _read_episodes(self.path, self.info)
        features: dict[str, Any] = self.info["features"]
        numbers = [name for name, feature in features.items() if feature["dtype"] != "image"]
        tables = [read_table(file, numbers) for file in self._files()]
        table = _whole(self.path, pa.concat_tables(tables), self.info)
        self.state = _column(table, layout.STATE)  # float32 (n, state fields)
        self.action = _column(table, layout.ACTION)  # float32 (n, action fields)
        self.perturbed = _column(table, "perturbed")  # bool (n,)
        self.intervention = _flags(table, "intervention")  # bool (n,)
        self.marker = _flags(table, "marker")  # bool (n,)
        self.done = _column(table, "next.done")  # bool (n,)
        self.success = _column(table, "next.success")  # bool (n,)
        self.timestamp = _column(
            table, "timestamp"
        )  # float32 (n,) s since the episode began: frame_index / fps, not measured
        self.frame_index = _column(table, "frame_index")  # int64 (n,) row within the episode
        self.episode_index = _column(table, "episode_index")  # int64 (n,)
        self.task_index = _column(table, "task_index")  # int64 (n,) into instructions
        self.text: tuple[str, ...] = tuple(table.column("action.text").to_pylist())  # n
        self.labels = {  # name -> float32 (n, size), NaN where the simulator named none
            name.removeprefix(layout.LABEL_PREFIX): _column(table, name)
            for name in numbers
            if name.startswith(layout.LABEL_PREFIX)
        }
        self._jpegs = {c.name: self._read_jpegs(c.name) for c in self.spec.cameras} if frames else {}

    def __len__(self) -> int:
        return len(self.state)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras whose frames are in memory."""
        return tuple(self._jpegs)

    def instruction(self, index: int) -> str:
        """Return the instruction of a row."""
        return self.instructions[int(self.task_index[index])]

    def jpeg(self, camera: str, index: int) -> NDArray[np.uint8]:
        """Return the JPEG of a row, uint8 (bytes,), without copying; raise UnknownNameError for a bad camera."""
        if camera not in self._jpegs:
            raise UnknownNameError("camera", camera, str(self.path), self._jpegs)
        return self._jpegs[camera].at(index)

    def frame(self, camera: str, index: int) -> Frame:
        """Return the frame of a row, RGB uint8 (H, W, 3); raise DatasetError if its bytes are no image."""
        try:
            return jpeg.decode(self.jpeg(camera, index))
        except ValueError as error:
            raise layout.DatasetError(self.path, f"frame of {camera!r} in row {index}: {error}") from error

    def episode(self, index: int) -> Episode:
        """Return an episode as a writer takes it; needs the frames in memory."""
        of = self.episodes[index]
        rows = slice(of.start, of.stop)
        return Episode(
            task=of.task,
            seed=of.seed,
            instruction=of.instruction,
            frames={
                name: tuple(map(bytes, (jpegs.at(i) for i in range(of.start, of.stop))))
                for name, jpegs in self._jpegs.items()
            },
            state=self.state[rows],
            action=self.action[rows],
            perturbed=self.perturbed[rows],
            intervention=self.intervention[rows],
            marker=self.marker[rows],
            text=self.text[rows],
            labels={name: values[rows] for name, values in self.labels.items()},
            done=self.done[rows],
            success=self.success[rows],
        )

    def _files(self) -> list[Path]:
        files = sorted((self.path / "data").glob("chunk-*/file-*.parquet"))
        if not files:
            raise layout.DatasetError(self.path / "data", "no data files")
        return files

    def _read_jpegs(self, camera: str) -> _Jpegs:
        column = layout.IMAGE_PREFIX + camera
        parts = [read_table(file, [column]).column(column) for file in self._files()]
        return _Jpegs([chunk.field("bytes") for part in parts for chunk in part.chunks])


class _Jpegs:
    """The JPEGs of one camera as views into Arrow's buffers, so that millions of them cost no Python objects."""

    def __init__(self, arrays: list[pa.Array]) -> None:
        self._data: list[NDArray[np.uint8]] = []
        self._bounds: list[NDArray[np.int32]] = []
        for array in arrays:
            _, offsets, data = array.buffers()
            bounds = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
            self._bounds.append(bounds)
            self._data.append(np.frombuffer(data, dtype=np.uint8))
        self._starts = np.cumsum([0] + [len(array) for array in arrays])

    def at(self, index: int) -> NDArray[np.uint8]:
        if not 0 <= index < self._starts[-1]:
            raise IndexError(f"row {index} of {self._starts[-1]}")
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - self._starts[part]
        start, stop = self._bounds[part][row : row + 2]
        return self._data[part][start:stop]


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise layout.DatasetError(path, "no such dataset")
    info = layout.read_json(path / layout.INFO)
    if (found := info.get("codebase_version")) != layout.CODEBASE_VERSION:
        raise layout.DatasetError(path / layout.INFO, f"version {found}; this reads {layout.CODEBASE_VERSION}")
    for key in ("features", "total_frames", "total_episodes"):
        if key not in info:
            raise layout.DatasetError(path / layout.INFO, f"no {key!r}")
    return info


def _read_spec(path: Path) -> RobotSpec:
    try:
        return RobotSpec.from_dict(layout.read_json(path / layout.SPEC))
    except (KeyError, TypeError, ValueError) as error:
        raise layout.DatasetError(path / layout.SPEC, f"not a robot's spec ({error})") from error


def _read_instructions(path: Path) -> tuple[str, ...]:
    table = read_table(path / layout.TASKS, ["task", "task_index"])
    named = dict(zip(table.column("task_index").to_pylist(), table.column("task").to_pylist(), strict=True))
    if sorted(named) != list(range(len(named))):
        raise layout.DatasetError(path / layout.TASKS, f"task_index is {sorted(named)}, not 0 to {len(named) - 1}")
    return tuple(named[i] for i in range(len(named)))


def _read_episodes(path: Path, info: dict[str, Any]) -> tuple[EpisodeRange, ...]:
    file = path / layout.EPISODES_PATH.format(chunk_index=0, file_index=0)
    columns = ["episode_index", "dataset_from_index", "dataset_to_index", "task", "seed", "tasks", "success"]
    rows = read_table(file, columns).to_pylist()
    if len(rows) != info["total_episodes"]:
        raise layout.DatasetError(file, f"truncated: {len(rows)} episodes of {info['total_episodes']}")
    return tuple(
        EpisodeRange(
            index=row["episode_index"],
            start=row["dataset_from_index"],
            stop=row["dataset_to_index"],
            task=row["task"],
            seed=row["seed"],
            instruction=row["tasks"][0],
            success=row["success"],
        )
        for row in rows
    )


def read_table(file: Path, columns: list[str]) -> pa.Table:
    """Return the columns of a parquet file; raise DatasetError if it is absent, broken, or lacks one."""
    try:
        with pq.ParquetFile(file) as parquet:
            if missing := [name for name in columns if name not in parquet.schema_arrow.names]:
                raise layout.DatasetError(file, f"no column {missing}; it has {parquet.schema_arrow.names}")
            return parquet.read(columns)
    except FileNotFoundError:
        raise layout.DatasetError(file, "no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise layout.DatasetError(file, f"truncated or not parquet ({error})") from error


def _whole(path: Path, table: pa.Table, info: dict[str, Any]) -> pa.Table:
    if table.num_rows != info["total_frames"]:
        raise layout.DatasetError(path / "data", f"truncated: {table.num_rows} rows of {info['total_frames']}")
    return table


def _flags(table: pa.Table, name: str) -> NDArray[np.bool_]:
    """Return a column that recordings of earlier versions lack: nothing happened in them that it would tell of."""
    return _column(table, name) if name in table.schema.names else np.zeros(len(table), np.bool_)


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    column = table.column(name).combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        return np.ascontiguousarray(column.flatten().to_numpy()).reshape(-1, size)
    return np.asarray(column.to_numpy(zero_copy_only=False))

"""Writes a recording: data files of a fixed number of episodes, then the tables and files under meta/."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embodied.recording import format as layout
from embodied.recording import stats
from embodied.recording.episode import Episode
from embodied.types import RobotSpec

NUMERIC = (
    "timestamp", "frame_index", "episode_index", "index", "task_index", "perturbed", "intervention", "marker",
    "next.done", "next.success",
)  # fmt: skip


@dataclass(frozen=True)
class _Placed:
    """Where an episode went."""

    episode: Episode
    index: int
    first_row: int
    task_index: int


class DatasetWriter:
    """Writes episodes in the order in which they are added; until finish() there is no info.json, so no dataset.

    Raises DatasetError where path already holds a dataset.
    """

    def __init__(
        self, path: Path, spec: RobotSpec, *, label_sizes: Mapping[str, int] | None = None, episodes_per_file: int = 50
    ) -> None:
        if (path / layout.INFO).exists():
            raise layout.DatasetError(path, "already holds a dataset")
        self._path, self._spec, self._episodes_per_file = path, spec, episodes_per_file
        self._features = layout.features(spec, label_sizes or {})
        self._schema = layout.arrow_schema(self._features)
        self._waiting: list[_Placed] = []
        self._waiting_bytes = 0  # of their frames
        self._episode_rows: list[dict[str, Any]] = []
        self._instructions: dict[str, int] = {}
        self._rows = 0
        self._files = 0
        self._numbers: dict[str, list[Any]] = {}
        self._images = {camera.name: stats.ImageStatistics() for camera in spec.cameras}

    def add(self, episode: Episode) -> None:
        """Append an episode; raise ValueError if it lacks a camera or a label of the dataset, or has rows too few."""
        for camera in self._spec.cameras:
            if len(episode.frames.get(camera.name, ())) != len(episode):
                raise ValueError(f"episode {episode.task} seed {episode.seed} lacks frames of {camera.name!r}")
            self._images[camera.name].add(episode.frames[camera.name][len(episode) // 2])
        index = len(self._episode_rows) + len(self._waiting)
        task_index = self._instructions.setdefault(episode.instruction, len(self._instructions))
        self._waiting.append(_Placed(episode, index, self._rows, task_index))
        self._rows += len(episode)
        self._waiting_bytes += sum(len(data) for jpegs in episode.frames.values() for data in jpegs)
        if len(self._waiting) == self._episodes_per_file or self._waiting_bytes >= layout.DATA_FILE_SIZE_MB * 1e6:
            self._flush()

    def finish(self, collection: Mapping[str, Any] | None = None) -> None:
        """Write what is waiting and everything under meta/; collection says how the recording was made."""
        if self._waiting:
            self._flush()
        if not self._episode_rows:
            raise layout.DatasetError(self._path, "no episode to write")
        write_table(self._path / layout.EPISODES_PATH.format(chunk_index=0, file_index=0), self._episodes_table())
        write_table(self._path / layout.TASKS, _tasks_table(self._instructions))
        layout.write_json(self._path / layout.STATS, self._statistics())
        layout.write_json(self._path / layout.SPEC, self._spec.to_dict())
        layout.write_json(self._path / layout.COLLECTION, collection or {})
        layout.write_json(self._path / layout.INFO, self._info())

    def _flush(self) -> None:
        chunk_index, file_index = divmod(self._files, layout.FILES_PER_CHUNK)
        tables = [self._table(placed) for placed in self._waiting]
        path = self._path / layout.DATA_PATH.format(chunk_index=chunk_index, file_index=file_index)
        write_table(path, pa.concat_tables(tables), image_columns=len(self._spec.cameras))
        for placed in self._waiting:
            self._episode_rows.append(_episode_row(placed, chunk_index, file_index))
        self._waiting.clear()
        self._waiting_bytes = 0
        self._files += 1

    def _table(self, placed: _Placed) -> pa.Table:
        columns = self._columns(placed)
        for name in self._schema.names:
            if name in NUMERIC or self._features[name]["dtype"] == "float32":
                self._numbers.setdefault(name, []).append(columns[name])
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
            "task_index": np.full(n, placed.task_index, dtype=np.int64),
            "perturbed": episode.perturbed,
            "intervention": episode.intervention,
            "marker": episode.marker,
            "action.text": list(episode.text),
            "next.done": episode.done,
            "next.success": episode.success,
        }

    def _statistics(self) -> dict[str, Any]:
        found = {layout.IMAGE_PREFIX + name: images.result() for name, images in self._images.items()}
        for name, parts in self._numbers.items():
            if (column := stats.of_column(np.concatenate(parts))) is not None:
                found[name] = column
        return found

    def _episodes_table(self) -> pa.Table:
        return pa.Table.from_pylist(self._episode_rows)

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
            "fps": int(hz) if float(hz).is_integer() else hz,
            "splits": {"train": f"0:{len(self._episode_rows)}"},
            "data_path": layout.DATA_PATH,
            "video_path": None,
            "features": self._features,
        }


def write_table(path: Path, table: pa.Table, *, image_columns: int = 0) -> None:
    """Write table as parquet so that the file is whole or absent; JPEGs, the first columns, stay uncompressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    images = table.schema.names[:image_columns]
    plain = [name for name in table.schema.names if name not in images]
    compression = dict.fromkeys(plain, "snappy") | {f"{n}.{leaf}": "none" for n in images for leaf in ("bytes", "path")}
    try:
        pq.write_table(table, partial, compression=compression, use_dictionary=False, write_statistics=plain)
    except OSError as error:  # Arrow's own words name no file
        raise layout.DatasetError(path, f"cannot be written: {error}") from error
    os.replace(partial, path)


def _arrow(column: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401  a numpy array, a tuple of JPEGs, or text
    if pa.types.is_struct(kind):
        paths = pa.nulls(len(column), pa.string())
        return pa.StructArray.from_arrays([pa.array(column, pa.binary()), paths], fields=list(kind))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), kind.list_size)
    return pa.array(column, kind)


def _episode_row(placed: _Placed, chunk_index: int, file_index: int) -> dict[str, Any]:
    episode = placed.episode
    return {
        "episode_index": placed.index,
        "tasks": [episode.instruction],
        "length": len(episode),
        "data/chunk_index": chunk_index,
        "data/file_index": file_index,
        "dataset_from_index": placed.first_row,
        "dataset_to_index": placed.first_row + len(episode),
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        "task": episode.task,
        "seed": episode.seed,
        "success": episode.succeeded,
    }


def _tasks_table(instructions: Mapping[str, int]) -> pa.Table:
    # LeRobot reads this table with pandas and looks instructions up in its index.
    table = pa.table({"task_index": list(instructions.values()), "task": list(instructions)})
    column = {"metadata": None, "numpy_type": "int64", "pandas_type": "int64"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {**column, "name": "task_index", "field_name": "task_index"},
            {**column, "name": "task", "field_name": "task", "numpy_type": "object", "pandas_type": "unicode"},
        ],
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})

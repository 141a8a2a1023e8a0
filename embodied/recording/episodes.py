"""The episodes and instructions of a dataset, as its tables under meta/ tell them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from embodied.recording import format as layout
from embodied.recording.frames import Footage
from embodied.recording.tables import column_names, read_table

PLACE = ("chunk_index", "file_index")
NEEDED = ("episode_index", "dataset_from_index", "dataset_to_index", "tasks")
OURS = ("task", "seed", "success")


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


def read_episode_rows(path: Path, info: Mapping[str, Any], videos: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of every file under meta/episodes: what is needed, what is ours, and where each video lies.

    Raise DatasetError where they are fewer or others than info.json says, or do not follow one another.
    """
    files = sorted((path / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
    if not files:
        raise layout.DatasetError(path / "meta" / "episodes", "no files of episodes")
    wanted = [*NEEDED, *(f"videos/{key}/{name}" for key in videos for name in (*PLACE, "from_timestamp"))]
    rows: list[dict[str, Any]] = []
    for file in files:
        ours = [name for name in OURS if name in column_names(file)]
        rows += read_table(file, [*wanted, *ours]).to_pylist()
    if len(rows) != info["total_episodes"]:
        raise layout.DatasetError(files[-1], f"truncated: {len(rows)} episodes of {info['total_episodes']}")
    at = 0
    for i, row in enumerate(rows):
        start, stop = row["dataset_from_index"], row["dataset_to_index"]
        if row["episode_index"] != i or start != at or stop <= start:
            raise layout.DatasetError(
                files[-1], f"episode {row['episode_index']} has rows {start} to {stop}, where {i} begins at {at}"
            )
        at = stop
    if at != info["total_frames"]:
        raise layout.DatasetError(files[-1], f"its episodes have {at} rows of {info['total_frames']}")
    return rows


def footage_of(path: Path, info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], key: str) -> list[Footage]:
    """Return where each episode's frames of a video feature lie."""
    return [
        Footage(
            file=path
            / info["video_path"].format(
                video_key=key, chunk_index=row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"]
            ),
            start_s=float(row[f"videos/{key}/from_timestamp"]),
            first_row=row["dataset_from_index"],
        )
        for row in rows
    ]


def read_instructions(path: Path) -> tuple[str, ...]:
    """Return the instructions by task_index; raise DatasetError unless these count from 0."""
    file = path / layout.TASKS
    # lerobot lets pandas name the column of its index: `__index_level_0__` in 0.4.4, `task` later.
    others = [name for name in column_names(file) if name != "task_index"]
    text = "task" if "task" in others or not others else others[0]
    table = read_table(file, ["task_index", text])
    named = dict(zip(table.column("task_index").to_pylist(), table.column(text).to_pylist(), strict=True))
    if sorted(named) != list(range(len(named))):
        raise layout.DatasetError(file, f"task_index is {sorted(named)}, not 0 to {len(named) - 1}")
    return tuple(str(named[i]) for i in range(len(named)))


def instructions_table(instructions: Mapping[str, int]) -> pa.Table:
    """Return meta/tasks.parquet: LeRobot reads it with pandas and looks instructions up in its index."""
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

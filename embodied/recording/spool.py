"""An episode on disk while it runs: rows are appended as they come, so that no fault loses more than the last one.

A spool is an Arrow IPC stream, a batch a row. It is called .partial until its episode has ended; a row that a kill or
a full disk cut short is left out when it is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embodied.output import to_disk
from embodied.recording import format as layout
from embodied.recording import jpeg
from embodied.recording.episode import Episode
from embodied.types import Observation, RobotSpec, Step, Vector

SUFFIX = ".arrow"
PARTIAL = ".partial"
_VECTOR = pa.list_(pa.float32())
_SCHEMA = pa.schema(
    {
        "frames": pa.map_(pa.string(), pa.binary()),
        "state": _VECTOR,
        "action": _VECTOR,
        "labels": pa.map_(pa.string(), _VECTOR),
        "perturbed": pa.bool_(),
        "intervention": pa.bool_(),
        "marker": pa.bool_(),
        "done": pa.bool_(),
        "success": pa.bool_(),
    }
)


@dataclass(frozen=True)
class Head:
    """What every row of an episode has in common."""

    spec: RobotSpec
    task: str
    seed: int
    instruction: str


@dataclass(frozen=True)
class Flags:
    """What is to be told of a row beside its numbers: see Episode."""

    perturbed: bool = False
    intervention: bool = False
    marker: bool = False


class SpoolWriter:
    """Appends rows to a file; what add() has returned from is with the system, and survives the death of this process.

    Raises DatasetError, naming the file, where the disk is full.
    """

    def __init__(self, path: Path, head: Head) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._partial = path, path.with_name(path.name + PARTIAL)
        about = {"spec": head.spec.to_dict(), "task": head.task, "seed": head.seed, "instruction": head.instruction}
        self._file = pa.OSFile(str(self._partial), "wb")  # unbuffered, and it takes a short write for the error it is
        self._stream = self._try(pa.ipc.new_stream, self._file, _SCHEMA.with_metadata({"head": json.dumps(about)}))

    def add(
        self, observation: Observation, action: Vector, step: Step, *, labels: Mapping[str, Vector], flags: Flags
    ) -> None:
        """Append the row of an observation, the action that answered it, and the step that followed."""
        row = {
            "frames": {name: jpeg.encode(frame) for name, frame in observation.frames.items()},
            "state": observation.state,
            "action": action,
            "labels": dict(labels),
            **asdict(flags),
            "done": step.done,
            "success": step.success,
        }
        batch = pa.RecordBatch.from_arrays([_array(row[f.name], f.type) for f in _SCHEMA], schema=_SCHEMA)
        self._try(self._stream.write_batch, batch)

    def finish(self, success: bool) -> None:
        """Say that the episode has ended, and how, whatever its last step said; and close."""
        nothing = pa.RecordBatch.from_pylist([], schema=_SCHEMA)
        self._try(self._stream.write_batch, nothing, {"success": json.dumps(success)})
        self.close()
        self._try(to_disk, self._partial)
        os.replace(self._partial, self._path)

    def close(self) -> None:
        """Close the file and leave the episode as interrupted; idempotent."""
        self._file.close()

    def _try(self, write: Any, *arguments: Any) -> Any:  # noqa: ANN401  Arrow is not typed
        try:
            return write(*arguments)
        except OSError as error:  # Arrow's own words name no file
            raise layout.DatasetError(self._partial, f"cannot be written: {error}") from error


class Spool:
    """One episode's spool, read; rows is how many are whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.interrupted = path.suffix == PARTIAL
        self.head: Head | None = None  # None where the kill came before the first row
        self.rows = 0
        self.success: bool | None = None  # how the episode ended; None where that was never said
        self.label_sizes: dict[str, int] = {}
        for row in self._rows():
            self.rows += 1
            self.label_sizes |= {name: len(values) for name, values in row["labels"]}

    def episode(self, label_sizes: Mapping[str, int]) -> Episode:
        """Return the episode with the labels of label_sizes, NaN where a row has none; one interrupted is a failure.

        Where time is real a step returns as its action begins, so what became of that is told by the step after it,
        together with what was changed of the next action at once: either row may be the perturbed one, and both are.
        """
        rows, head = list(self._rows()), self.head
        if head is None or not rows:
            raise layout.DatasetError(self.path, "no whole row")
        frames = [dict(row["frames"]) for row in rows]
        flags = {f.name: _flag(rows, f.name) for f in fields(Flags)}
        if head.spec.realtime:
            flags["perturbed"][:-1] |= flags["perturbed"][1:]
        done, success = np.array([(row["done"], row["success"]) for row in rows], np.bool_).T
        if self.interrupted:
            success[-1] = False
        elif self.success is not None:
            done[-1], success[-1] = True, self.success
        return Episode(
            task=head.task,
            seed=head.seed,
            instruction=head.instruction,
            frames={camera.name: tuple(f[camera.name] for f in frames) for camera in head.spec.cameras},
            state=np.array([row["state"] for row in rows], np.float32),
            action=np.array([row["action"] for row in rows], np.float32),
            **flags,
            scene=np.zeros(len(rows), np.bool_),
            text=("",) * len(rows),
            labels={name: _label(rows, name, size) for name, size in label_sizes.items()},
            done=done,
            success=success,
            said=(),
        )

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            with pa.memory_map(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
                self.head = _head(stream.schema)
                while True:
                    batch, about = stream.read_next_batch_with_custom_metadata()
                    if len(batch):
                        yield batch.to_pylist()[0]
                    elif about:
                        self.success = json.loads(about[b"success"])
        except (pa.ArrowInvalid, OSError, StopIteration):
            return  # the end of what was written; what came before it has been read


def _head(schema: pa.Schema) -> Head:
    about = json.loads(schema.metadata[b"head"])
    return Head(RobotSpec.from_dict(about["spec"]), about["task"], about["seed"], about["instruction"])


def _array(value: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401  a column's value in one row
    return pa.array([list(value.items()) if isinstance(value, dict) else value], kind)


def _flag(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row.get(name, False) for row in rows], np.bool_)


def _label(rows: list[dict[str, Any]], name: str, size: int) -> np.ndarray:
    absent = [np.nan] * size
    return np.array([dict(row["labels"]).get(name, absent) for row in rows], np.float32)

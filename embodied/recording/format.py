"""The layout of a recording: LeRobot dataset format v3.0 plus the columns and files that this project adds.

The format is that of huggingface/lerobot, `src/lerobot/datasets`, codebase_version v3.0. Ours are the columns
`perturbed`, `intervention`, `marker`, `scene`, `action.text`, `label.*`, and the files `meta/robot_spec.json` and
`meta/collection.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from embodied.errors import EmbodiedError
from embodied.output import to_disk
from embodied.types import RobotSpec

CODEBASE_VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_FILE_SIZE_MB = 100  # what lerobot assumes as an upper bound when it appends
VIDEO_FILE_SIZE_MB = 200
CONVERTER = "python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id NAME --root DIR --push-to-hub=false"

FOLDERS = ("data", "videos", "meta")
INFO = Path("meta/info.json")
STATS = Path("meta/stats.json")
TASKS = Path("meta/tasks.parquet")
SPEC = Path("meta/robot_spec.json")
COLLECTION = Path("meta/collection.json")
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

STATE = "observation.state"
ACTION = "action"
IMAGE_PREFIX = "observation.images."
LABEL_PREFIX = "label."
VISUAL = ("image", "video")  # dtypes of a camera's feature

_SCALARS = {
    "timestamp": "float32",  # s since the episode began, as LeRobot has it: frame_index / fps, not measured
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
    "perturbed": "bool",
    "intervention": "bool",  # an operator acted in the policy's place
    "marker": "bool",  # an operator pressed a key to find the row again
    "scene": "bool",  # a picture of things that were laid out at random; its action answers nothing
    "action.text": "string",
    "next.done": "bool",
    "next.success": "bool",
}

_ARROW_TYPES = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_(), "string": pa.string()}
_IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class DatasetError(EmbodiedError):
    """A recording that cannot be read or written; the message names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def features(spec: RobotSpec, label_sizes: Mapping[str, int], *, visual: str = "image") -> dict[str, dict[str, Any]]:
    """Return the `features` of info.json: every data column, and camera whose frames are videos, with its shape."""
    found: dict[str, dict[str, Any]] = {
        f"{IMAGE_PREFIX}{c.name}": {
            "dtype": visual,
            "shape": [c.height, c.width, 3],
            "names": ["height", "width", "channels"],
        }
        for c in spec.cameras
    }
    if spec.state:  # parquet has no lists of no numbers
        found[STATE] = _vector([f.name for f in spec.state])
    found[ACTION] = _vector([f.name for f in spec.action])
    for name, size in sorted(label_sizes.items()):
        found[f"{LABEL_PREFIX}{name}"] = _vector([f"{name}_{i}" for i in range(size)])
    for name, dtype in _SCALARS.items():
        found[name] = {"dtype": dtype, "shape": [1], "names": None}
    return found


def arrow_schema(columns: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Return the parquet schema of the features, with the metadata by which Hugging Face datasets decodes images."""
    fields: list[pa.Field] = []
    declared: dict[str, dict[str, Any]] = {}
    for name, feature in columns.items():
        dtype, shape = feature["dtype"], feature["shape"]
        if dtype == "video":
            continue
        if dtype == "image":
            fields.append(pa.field(name, _IMAGE_TYPE))
            declared[name] = {"_type": "Image"}
        elif shape == [1] and name in _SCALARS:
            fields.append(pa.field(name, _ARROW_TYPES[dtype]))
            declared[name] = {"dtype": dtype, "_type": "Value"}
        else:
            fields.append(pa.field(name, pa.list_(_ARROW_TYPES[dtype], shape[0])))
            item = {"dtype": dtype, "_type": "Value"}
            declared[name] = {"feature": item, "length": shape[0], "_type": "Sequence"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": declared}})})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write content so that the file is whole or absent; raise DatasetError, naming it, where the disk is full."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        to_disk(partial)  # else the name may be there before the content is, and vouch for nothing
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DatasetError(path, f"cannot be written: {error.strerror}") from error
    os.replace(partial, path)


def all_to_disk(dataset: Path) -> None:
    """Bring a dataset's files and their names to the disk itself, so that a power cut takes none of them.

    Raise DatasetError, naming the file, where the disk does not take one.
    """
    folders = [folder for name in FOLDERS if (folder := dataset / name).exists()]
    for path in [*chain.from_iterable(folder.rglob("*") for folder in folders), *folders, dataset, dataset.parent]:
        try:
            to_disk(path)
        except OSError as error:
            raise DatasetError(path, f"cannot be brought to the disk: {error.strerror}") from error


def plain(content: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return content as it would come back from a JSON file: tuples as lists."""
    return json.loads(json.dumps(content))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in path; raise DatasetError if it is absent or not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise DatasetError(path, f"not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DatasetError(path, f"holds a JSON {type(content).__name__}, not an object")
    return content


def _vector(names: list[str]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [len(names)], "names": names}

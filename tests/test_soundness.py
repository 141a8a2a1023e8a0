"""What is wrong with a dataset is said with the file and the row, and nothing half-written is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embodied.recording.format import DatasetError
from embodied.recording.reader import DatasetReader
from embodied.recording.soundness import require_sound
from embodied.recording.writer import DatasetWriter
from tests.test_recording import LABELS, SPEC, record

ROOT = Path(__file__).parents[1]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    writer = DatasetWriter(tmp_path / "d", SPEC, label_sizes=LABELS, episodes_per_file=2)
    for episode in (("reach", 0, 5), ("reach", 3, 7), ("push", 0, 4)):
        writer.add(record(*episode))
    writer.finish()
    return tmp_path / "d"


def change(file: Path, **content) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **content}))


def replace_column(file: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.schema.names.index(name), name, values), file)


def vectors(file: Path, name: str) -> np.ndarray:
    return np.array(pq.read_table(file).column(name).to_pylist(), np.float32)


def lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def test_a_whole_dataset_is_sound(dataset):
    require_sound(DatasetReader(dataset))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_named(dataset, bad):
    file = dataset / "data/chunk-000/file-001.parquet"
    action = vectors(file, "action")
    action[2, 1] = bad
    replace_column(file, "action", lists(action))
    reader = DatasetReader(dataset)  # it can be looked into
    told = rf"file-001\.parquet: 'action' is {bad} at 'b' in row 14 \(episode 2, frame 2\)"
    with pytest.raises(DatasetError, match=told):
        require_sound(reader)


def test_a_rate_that_is_not_that_of_the_times_is_named(dataset):
    change(dataset / "meta/info.json", fps=25)
    change(dataset / "meta/robot_spec.json", control_hz=25.0)
    told = r"file-000\.parquet: rows are 0\.1000 s apart, and fps 25 .* says 0\.0400; the first is row 1 \(episode 0,"
    with pytest.raises(DatasetError, match=told):
        require_sound(DatasetReader(dataset))


def test_a_rate_that_is_not_the_robots_is_named(dataset):
    change(dataset / "meta/info.json", fps=25)
    with pytest.raises(DatasetError, match=r"robot_spec\.json: control_hz is 10, and meta/info\.json has fps 25"):
        require_sound(DatasetReader(dataset))


def test_jitter_of_measured_times_is_no_wrong_rate(dataset):
    for file in (dataset / "data").rglob("*.parquet"):
        times = np.array(pq.read_table(file).column("timestamp").to_pylist())
        jitter = np.random.default_rng(0).uniform(-0.03, 0.03, len(times))
        replace_column(file, "timestamp", pa.array(np.maximum(times + jitter, 0), pa.float32()))
    require_sound(DatasetReader(dataset))


def test_statistics_of_a_robot_with_other_fields_are_named(dataset):
    stats = json.loads((dataset / "meta/stats.json").read_text())
    change(dataset / "meta/stats.json", action={**stats["action"], "mean": [0.0] * 7})
    with pytest.raises(DatasetError, match=r"stats\.json: mean of 'action' has 7 numbers and the column 2"):
        require_sound(DatasetReader(dataset))


def test_statistics_of_a_robot_with_other_ranges_are_named_with_the_row(dataset):
    stats = json.loads((dataset / "meta/stats.json").read_text())
    change(dataset / "meta/stats.json", action={**stats["action"], "min": [-0.01, -0.01], "max": [0.01, 0.01]})
    with pytest.raises(
        DatasetError, match=r"stats\.json: 'action' is .* in row 0 \(episode 0, frame 0\) of .*file-000"
    ):
        require_sound(DatasetReader(dataset))


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ({"mean": [0.0, 0.0], "std": [1.0, 1.0]}, "'action' has no min and no max"),
        ({"min": [-9.0, -9.0], "mean": [0.0, 0.0]}, "'action' has no max"),
        ({"min": "low", "max": [9.0, 9.0]}, "'action' has what is no list of numbers"),
        ([0.0, 1.0], "'action' has no min and no max"),
    ],
)
def test_statistics_that_are_none_are_named(dataset, stored, reason):
    change(dataset / "meta/stats.json", action=stored)
    with pytest.raises(DatasetError, match=rf"stats\.json: {reason}.*: .* Without the file they are computed"):
        require_sound(DatasetReader(dataset))


@pytest.mark.parametrize("name", ["state", "action"])
def test_a_value_out_of_the_robots_range_is_named_with_its_row(dataset, name):
    fields = json.loads((dataset / "meta/robot_spec.json").read_text())[name]
    most = float(getattr(DatasetReader(dataset), name)[:, 1].max())
    fields[1].update(low=most - 2.0, high=most - 0.01)  # half a hundredth of the range is let be
    change(dataset / "meta/robot_spec.json", **{name: fields})
    require_sound(DatasetReader(dataset))
    fields[1].update(high=most - 0.1)
    change(dataset / "meta/robot_spec.json", **{name: fields})
    told = rf"\.parquet: '.*{name}' is .* at 'b' in row \d+ \(episode \d, frame \d\), and its range is"
    with pytest.raises(DatasetError, match=told):
        require_sound(DatasetReader(dataset))


def test_the_spec_of_another_robot_is_named(dataset):
    spec = json.loads((dataset / "meta/robot_spec.json").read_text())
    spec["state"][0]["name"] = "elbow"
    change(dataset / "meta/robot_spec.json", state=spec["state"])
    told = r"robot_spec\.json: observation\.state is \['elbow', 'b'\], and meta/info\.json has \['a', 'b'\]"
    with pytest.raises(DatasetError, match=told):
        require_sound(DatasetReader(dataset))


@pytest.mark.parametrize("version", ["v3.1", "v4.0"])
def test_a_newer_version_is_refused(dataset, version):
    change(dataset / "meta/info.json", codebase_version=version)
    with pytest.raises(
        DatasetError, match=rf"info\.json: version {version}; this reads v3\.0, which lerobot 0\.4 writes"
    ):
        DatasetReader(dataset)


def test_an_older_version_is_refused_with_the_way_to_convert_it(dataset):
    change(dataset / "meta/info.json", codebase_version="v2.1")
    with pytest.raises(DatasetError, match=r"version v2\.1; this reads v3\.0; lerobot converts it: python -m lerobot"):
        DatasetReader(dataset)


def test_no_action_is_no_dataset_to_learn_from(dataset):
    features = json.loads((dataset / "meta/info.json").read_text())["features"]
    change(dataset / "meta/info.json", features={n: f for n, f in features.items() if n != "action"})
    with pytest.raises(DatasetError, match=r"info\.json: no feature \['action'\]; it has"):
        DatasetReader(dataset)


def test_rows_of_another_episode_are_named(dataset):
    file = dataset / "data/chunk-000/file-000.parquet"
    replace_column(file, "episode_index", pa.array([0] * 6 + [1] * 6))
    with pytest.raises(DatasetError, match=r"file-000\.parquet: row 5 is of episode 0; meta says 1"):
        DatasetReader(dataset)


def test_several_files_of_episodes_are_read(dataset):
    file = dataset / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(0, 2), file)
    (dataset / "meta/episodes/chunk-001").mkdir()
    pq.write_table(table.slice(2), dataset / "meta/episodes/chunk-001/file-000.parquet")
    assert [e.start for e in DatasetReader(dataset).episodes] == [0, 5, 12]


def test_a_broken_picture_is_named_with_its_row_and_episode(dataset):
    file = dataset / "data/chunk-000/file-001.parquet"
    pictures = pq.read_table(file).column("observation.images.front").to_pylist()
    pictures[1]["bytes"] = b"no picture"
    replace_column(file, "observation.images.front", pa.array(pictures))
    told = r"file-001\.parquet: 'observation\.images\.front' of row 13 \(episode 2, frame 1\): .* no image"
    with pytest.raises(DatasetError, match=told):
        DatasetReader(dataset).frames("front", [12, 13])


FULL = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from embodied.recording import jpeg
from embodied.recording.format import DatasetError
from embodied.recording.writer import DatasetWriter
from tests.test_recording import LABELS, SPEC, record
path = Path(sys.argv[1])
noise = np.random.default_rng(0).integers(256, size=(60, 32, 48, 3), dtype=np.uint8)
pictures = tuple(jpeg.encode(frame) for frame in noise)
try:
    writer = DatasetWriter(path, SPEC, label_sizes=LABELS, video=sys.argv[2] or None)
    episode = record("reach", 0, 60)
    writer.add(replace(episode, frames={**episode.frames, "front": pictures}))
    writer.finish()
except DatasetError as error:
    print(error)
    print(sorted(file.name for file in path.rglob("*") if file.is_file()))
"""


@pytest.mark.parametrize(("codec", "named"), [("", "file-000.parquet"), ("h264", "file-000.mp4")])
def test_a_full_disk_is_named_and_leaves_no_dataset(tmp_path, codec, named):
    command = f'ulimit -f 24; exec {sys.executable} -c "$0" {tmp_path}/d "{codec}"'  # no file beyond 24 kB
    ran = subprocess.run(["bash", "-c", command, FULL], capture_output=True, text=True, check=False, cwd=ROOT)
    said, left = ran.stdout.splitlines()[-2:]
    assert named in said and "cannot be written" in said, ran.stderr
    assert ".partial" not in left and "info.json" not in left

"""Datasets go both ways between this project and lerobot 0.4.4: what it wrote is read here, what we write reads there.

tests/data/lerobot-0.4.4 was written by `.venv-lerobot/bin/python tests/lerobot/peer.py write DIR --videos front wrist
--images side`. What needs lerobot itself is skipped where `make lerobot` was not run.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embodied.recording.reader import DatasetReader
from embodied.recording.soundness import require_sound
from embodied.recording.writer import DatasetWriter
from tests.lerobot.content import picture, states
from tests.test_recording import LABELS, SPEC, record

ROOT = Path(__file__).parents[1]
THEIRS = ROOT / "tests" / "data" / "lerobot-0.4.4"
PYTHON = ROOT / ".venv-lerobot" / "bin" / "python"
OURS = ("images", "h264", "av1")
EPISODES = (("reach", 0, 5), ("reach", 3, 7), ("push", 0, 4))


@pytest.fixture(scope="module")
def theirs() -> DatasetReader:
    return DatasetReader(THEIRS)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    for name in OURS:
        codec = None if name == "images" else name
        writer = DatasetWriter(folder / name, SPEC, label_sizes=LABELS, episodes_per_file=2, video=codec)
        for episode in EPISODES:
            writer.add(record(*episode))
        writer.finish()
    return folder


@pytest.fixture(scope="module")
def read_there(ours: Path) -> dict[str, dict]:
    if not PYTHON.exists():
        pytest.skip("no lerobot here: `make lerobot`")
    command = [str(PYTHON), str(ROOT / "tests" / "lerobot" / "peer.py"), "read", str(ours)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(ours / "home.hf")}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=env, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: {**line, "frames": np.load(ours / f"{line['name']}.npz")} for line in lines}


def test_what_lerobot_wrote_has_its_numbers_here(theirs):
    expected = np.concatenate(list(states(2, 6)))
    np.testing.assert_array_equal(theirs.state, expected)
    np.testing.assert_array_equal(theirs.action, expected * np.float32(0.5))
    assert theirs.instructions == ("lift cube 0", "lift cube 1")
    assert [(e.start, e.stop, e.task, e.success) for e in theirs.episodes] == [
        (0, 6, "lift cube 0", True),
        (6, 13, "lift cube 1", True),
    ]
    assert np.flatnonzero(theirs.success).tolist() == np.flatnonzero(theirs.done).tolist() == [5, 12]
    assert not theirs.perturbed.any() and not theirs.intervention.any() and set(theirs.text) == {""}
    require_sound(theirs)


def test_what_lerobot_filmed_looks_the_same_here(theirs):
    rows = [12, 0, 7, 7, 3]
    expected = np.stack([picture(int(theirs.frame_index[r]), int(theirs.episode_index[r]), 32) for r in rows])
    np.testing.assert_array_equal(theirs.frames("side", rows), expected)  # PNGs
    for camera in ("front", "wrist"):
        found = theirs.frames(camera, rows)
        assert np.abs(found.astype(int) - expected).mean() < 6, camera
        np.testing.assert_array_equal(theirs.frame(camera, 7), found[2])


def test_its_robot_is_as_far_as_the_dataset_tells_it(theirs):
    spec = theirs.spec
    assert (spec.name, spec.control_hz) == ("peer_arm", 10.0)
    assert [(c.name, c.height, c.width) for c in spec.cameras] == [
        ("front", 32, 32),
        ("wrist", 32, 32),
        ("side", 32, 32),
    ]
    assert [f.name for f in spec.state] == [f.name for f in spec.action] == ["pan", "lift", "jaw"]
    low, high = np.array([(f.low, f.high) for f in spec.action]).T
    assert (low < theirs.action.min(0)).all() and (theirs.action.max(0) < high).all()
    assert (high - low < 1.2 * np.ptp(theirs.action, axis=0) + 0.003).all()


def test_features_of_any_shape_and_type_can_be_had(theirs):
    assert theirs.column("observation.force").shape == (13, 2, 3)
    assert theirs.column("observation.force").dtype == np.float64
    np.testing.assert_array_equal(theirs.column("observation.force")[8], np.full((2, 3), 2.0))
    np.testing.assert_array_equal(theirs.column("counter"), theirs.frame_index)


def test_an_episode_of_lerobots_can_be_written_again(theirs, tmp_path):
    writer = DatasetWriter(tmp_path / "d", theirs.spec)
    writer.add(theirs.episode(1))
    writer.finish()
    again = DatasetReader(tmp_path / "d")
    np.testing.assert_array_equal(again.state, theirs.state[6:])
    np.testing.assert_array_equal(again.frame("side", 2), theirs.frame("side", 8))  # its PNG as it was
    assert np.abs(again.frame("front", 2).astype(int) - theirs.frame("front", 8)).mean() < 3


def types(file: Path) -> dict[str, str]:
    return {field.name: str(field.type) for field in pq.read_schema(file)}


def test_ours_is_on_disk_as_lerobots_is(ours):
    """Columns beyond lerobot's are ours to add; those that it has are there, with its types, and so is its metadata."""
    own = {"observation.force", "next.reward", "counter", "observation.images.side"}
    mine, its = (json.loads((folder / "meta/info.json").read_text()) for folder in (ours / "av1", THEIRS))
    assert set(mine) == set(its) and mine["video_path"] == its["video_path"] and mine["data_path"] == its["data_path"]
    front, its_front = (info["features"]["observation.images.front"] for info in (mine, its))
    assert set(front) == set(its_front) and set(front["info"]) == set(its_front["info"])
    assert front["info"]["video.codec"] == its_front["info"]["video.codec"] == "av1"
    for file in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        here, there = types(ours / "av1" / file), types(THEIRS / file)
        needed = {n: t.replace("[3]", "[2]") for n, t in there.items() if own.isdisjoint(n.split("/"))}
        assert {n: here.get(n) for n in needed} == needed
    stats, its_stats = (json.loads((folder / "meta/stats.json").read_text()) for folder in (ours / "av1", THEIRS))
    assert set(its_stats) - own <= set(stats)
    assert all(set(stats[name]) == set(its_stats[name]) for name in set(its_stats) - own)
    assert all(
        np.shape(stats["observation.images.front"][n]) == np.shape(its_stats["observation.images.front"][n])
        for n in its_stats["observation.images.front"]
    )


@pytest.mark.parametrize("name", OURS)
def test_lerobot_reads_the_same_numbers_and_frames_of_ours(ours, read_there, name):
    mine, there = DatasetReader(ours / name), read_there[name]
    assert there["fps"] == 10 and len(there["rows"]) == len(mine) == 16
    for row, item in enumerate(there["rows"]):
        np.testing.assert_array_equal(np.float32(item["observation.state"]), mine.state[row])
        np.testing.assert_array_equal(np.float32(item["action"]), mine.action[row])
        assert item["task"] == mine.instruction(row) and item["action.text"] == mine.text[row]
        assert item["next.success"] == mine.success[row]
    for camera in mine.cameras:
        frames = there["frames"][f"observation.images.{camera}"]
        assert np.abs(frames.astype(int) - mine.frames(camera, range(16))).max() <= 2, camera

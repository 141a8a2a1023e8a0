"""A recording holds what was put into it, in LeRobot's layout, and says what is wrong with a broken one."""

import json
import threading
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from embodied.errors import UnknownNameError
from embodied.recording import jpeg
from embodied.recording.checks import check_dataset
from embodied.recording.episode import EpisodeRecorder
from embodied.recording.format import DatasetError
from embodied.recording.reader import DatasetReader
from embodied.recording.soundness import require_sound
from embodied.recording.stats import ImageStatistics
from embodied.recording.writer import DatasetWriter
from embodied.types import Camera, Field, Observation, RobotSpec, Step

SPEC = RobotSpec(
    name="toy",
    control_hz=10.0,
    cameras=(Camera("front", 32, 48, 45.0), Camera("wrist", 32, 32, 60.0)),
    state=(Field("a", "rad", -1, 1), Field("b", "rad", -2, 2)),
    action=(Field("a", "rad", -1, 1), Field("b", "rad", -2, 2)),
    tasks=("reach", "push"),
)
LABELS = {"target_position": 3, "goal_box": 4}


def flat_frame(height, width, colour):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def record(task, seed, rows):
    recorder = EpisodeRecorder(task, seed, f"{task} the red cube")
    rng = np.random.default_rng(seed)
    for row in range(rows):
        frames = {"front": flat_frame(32, 48, (200, row, seed)), "wrist": flat_frame(32, 32, (0, 200, 40))}
        state = rng.uniform(-1, 1, 2).astype(np.float32)
        observation = Observation(row, frames, state, f"{task} the red cube")
        step = Step(observation, success=row == rows - 1, terminated=row == rows - 1)
        recorder.add(
            observation,
            state / 2,
            step,
            labels={"target_position": np.full(3, row, np.float32)},
            perturbed=row == 1,
            text=f"move {row}",
        )
    return recorder.finish(LABELS)


@pytest.fixture
def episodes():
    return [record("reach", 0, 5), record("reach", 3, 7), record("push", 0, 4)]


@pytest.fixture
def dataset(tmp_path, episodes):
    writer = DatasetWriter(tmp_path / "data", SPEC, label_sizes=LABELS, episodes_per_file=2)
    for episode in episodes:
        writer.add(episode)
    writer.finish({"seed": 0})
    return tmp_path / "data"


def test_numbers_come_back_exactly(dataset, episodes):
    reader = DatasetReader(dataset)
    assert len(reader) == 16
    assert np.array_equal(reader.state, np.concatenate([e.state for e in episodes]))
    assert np.array_equal(reader.action, np.concatenate([e.action for e in episodes]))
    assert reader.state.dtype == reader.action.dtype == np.float32
    assert np.array_equal(np.flatnonzero(reader.perturbed), [1, 6, 13])
    assert np.array_equal(np.flatnonzero(reader.done), [4, 11, 15])
    assert np.array_equal(reader.done, reader.success)
    assert reader.text[5] == "move 0"
    assert np.array_equal(reader.labels["target_position"][6], [1, 1, 1])
    assert np.allclose(reader.timestamp[5:8], [0.0, 0.1, 0.2])


def test_a_label_that_the_simulator_did_not_name_is_nan(dataset):
    assert np.isnan(DatasetReader(dataset).labels["goal_box"]).all()


def test_episodes_say_where_they_lie_and_what_they_were(dataset):
    reader = DatasetReader(dataset)
    found = [(e.index, e.start, e.stop, e.task, e.seed, e.success) for e in reader.episodes]
    assert found == [(0, 0, 5, "reach", 0, True), (1, 5, 12, "reach", 3, True), (2, 12, 16, "push", 0, True)]
    assert reader.instructions == ("reach the red cube", "push the red cube")
    assert reader.instruction(13) == "push the red cube"
    assert reader.spec == SPEC
    assert reader.collection == {"seed": 0}


def test_frames_come_back_in_rgb_whatever_file_they_lie_in(dataset, episodes):
    reader = DatasetReader(dataset)
    for row, seed in ((0, 0), (5, 3), (14, 0)):
        frame = reader.frame("front", row)
        assert frame.shape == (32, 48, 3)
        assert frame.dtype == np.uint8
        assert np.abs(frame[5, 5].astype(int) - (200, reader.frame_index[row], seed)).max() <= 3
    assert reader.jpeg("front", 6).tobytes() == episodes[1].frames["front"][1]


def test_a_robot_without_a_state_is_recorded_and_nothing_is_wrong_with_it(tmp_path, episodes):
    spec = replace(SPEC, state=())
    writer = DatasetWriter(tmp_path / "data", spec, label_sizes=LABELS)
    for episode in episodes:
        writer.add(replace(episode, state=episode.state[:, :0]))
    writer.finish()
    reader = DatasetReader(tmp_path / "data")
    assert reader.spec == spec and reader.state.shape == (16, 0) and reader.episode(1).state.shape == (7, 0)
    assert [finding.level for finding in check_dataset(tmp_path / "data") if finding.level == "error"] == []
    require_sound(reader)


def misread_by_threads(reader, camera, rows, expected):
    """Read frames on four threads at once; return where, among rows, any of them got another one than expected."""
    wrong = []

    def read():
        frames = zip(rows, expected, strict=True)
        wrong.extend(i for i, (row, frame) in enumerate(frames) if not np.array_equal(reader.frame(camera, row), frame))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def test_frames_can_be_read_from_several_threads(dataset):
    reader = DatasetReader(dataset)
    rows = range(len(reader))
    assert misread_by_threads(reader, "wrist", rows, [reader.frame("wrist", row) for row in rows]) == []


def test_the_layout_is_lerobots(dataset):
    info = json.loads((dataset / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 10, 16)
    assert (info["total_episodes"], info["total_tasks"], info["splits"]) == (3, 2, {"train": "0:3"})
    assert info["features"]["observation.images.front"]["dtype"] == "image"
    table = pq.read_table(dataset / "data/chunk-000/file-001.parquet")
    assert table.column_names == list(info["features"])
    assert table.column("index").to_pylist() == [12, 13, 14, 15]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["observation.images.front"] == {"_type": "Image"}
    assert features["observation.state"] == {
        "feature": {"dtype": "float32", "_type": "Value"},
        "length": 2,
        "_type": "Sequence",
    }


def test_statistics_are_those_of_the_columns(dataset, episodes):
    stats = DatasetReader(dataset).stats
    state = np.concatenate([e.state for e in episodes])
    assert np.allclose(stats["observation.state"]["mean"], state.mean(axis=0), atol=1e-6)
    assert np.allclose(stats["observation.state"]["std"], state.std(axis=0), atol=1e-6)
    assert stats["observation.state"]["count"] == [16]
    assert np.shape(stats["observation.images.wrist"]["mean"]) == (3, 1, 1)
    assert np.allclose(np.ravel(stats["observation.images.wrist"]["mean"]), np.array([0, 200, 40]) / 255, atol=0.01)
    assert "label.goal_box" not in stats


def test_image_statistics_are_those_of_the_pixels():
    rng = np.random.default_rng(0)
    shown = [jpeg.encode(rng.integers(20, 200, (16, 16, 3), dtype=np.uint8)) for _ in range(3)]
    images = ImageStatistics()
    for data in shown:
        images.add_frame(jpeg.decode(np.frombuffer(data, np.uint8)))
    pixels = np.concatenate([jpeg.decode(np.frombuffer(d, np.uint8)).reshape(-1, 3) for d in shown]) / 255.0
    found = {name: np.ravel(values) for name, values in images.result().items()}
    assert found["count"] == [3]
    for name in ("min", "max", "mean", "std"):
        assert np.allclose(found[name], getattr(pixels, name)(axis=0)), name


def test_an_unknown_camera_is_named_with_the_choices(dataset):
    with pytest.raises(UnknownNameError, match=r"no camera 'side'.*\['front', 'wrist'\]"):
        DatasetReader(dataset).frame("side", 0)


def test_a_row_beyond_the_end_is_an_index_error(dataset):
    with pytest.raises(IndexError, match="row 16 of 16"):
        DatasetReader(dataset).frame("front", 16)


def test_writing_over_a_dataset_is_refused(dataset):
    with pytest.raises(DatasetError, match="already holds a dataset"):
        DatasetWriter(dataset, SPEC)


def test_an_episode_without_a_camera_is_refused(tmp_path, episodes):
    other = RobotSpec(**{**SPEC.__dict__, "cameras": (Camera("side", 32, 32, 45.0),)})
    with pytest.raises(ValueError, match="'side'"):
        DatasetWriter(tmp_path, other, label_sizes=LABELS).add(episodes[0])


def test_an_episode_without_a_label_is_refused(tmp_path, episodes):
    writer = DatasetWriter(tmp_path / "data", SPEC, label_sizes=LABELS)
    with pytest.raises(ValueError, match="episode reach seed 0 lacks the label 'goal_box'"):
        writer.add(replace(episodes[0], labels={"target_position": episodes[0].labels["target_position"]}))


def test_a_writer_that_was_not_finished_leaves_no_dataset(tmp_path, episodes):
    DatasetWriter(tmp_path, SPEC, label_sizes=LABELS, episodes_per_file=1).add(episodes[0])
    with pytest.raises(DatasetError, match=r"info\.json: no such file"):
        DatasetReader(tmp_path)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such dataset"):
        DatasetReader(tmp_path / "nowhere")


def test_another_version_is_refused(dataset):
    info = dataset / "meta/info.json"
    info.write_text(info.read_text().replace('"v3.0"', '"v2.1"'))
    with pytest.raises(DatasetError, match=r"version v2\.1; this reads v3\.0"):
        DatasetReader(dataset)


def test_a_truncated_file_is_named(dataset):
    file = dataset / "data/chunk-000/file-001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"file-001\.parquet: truncated"):
        DatasetReader(dataset)


def test_a_missing_data_file_is_noticed(dataset):
    (dataset / "data/chunk-000/file-001.parquet").unlink()
    with pytest.raises(DatasetError, match="truncated: 12 rows of 16"):
        DatasetReader(dataset)


def test_a_missing_column_is_named(dataset):
    file = dataset / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["perturbed"]), file)
    with pytest.raises(DatasetError, match=r"file-000\.parquet: no column \['perturbed'\]"):
        DatasetReader(dataset)


def test_bytes_that_are_no_image_are_refused():
    for data in (b"", b"no image"):
        with pytest.raises(ValueError, match="no image"):
            jpeg.decode(np.frombuffer(data, dtype=np.uint8))

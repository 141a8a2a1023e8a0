"""`embodied data` keeps what another program says of each episode and row, and refuses a spec of another dataset."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from embodied.cli import main
from embodied.recording.checks import check_dataset
from embodied.recording.episodes import OURS
from embodied.recording.findings import Thresholds
from embodied.recording.reader import DatasetReader
from tests.test_data_verb import EPISODES, ROWS, changed, record, with_column, with_json, write

EPISODES_FILE = "meta/episodes/chunk-000/file-000.parquet"
FIELD = {"name": "c", "unit": "rad", "low": -1, "high": 1, "mode": "absolute"}
CAMERA = {"name": "back", "height": 32, "width": 32, "fovy_deg": 45.0}
MISFITS = (
    ("state", lambda it: it.append(FIELD), "observation.state has 2 numbers a row, and meta/robot_spec.json names 3"),
    ("state", lambda it: it.pop(), "observation.state has 2 numbers a row, and meta/robot_spec.json names 1"),
    ("cameras", lambda it: it.append(CAMERA), "names the cameras ['back'], and meta/info.json has ['front', 'wrist']"),
)


@pytest.fixture
def foreign(tmp_path):
    """Return a dataset without our columns of episodes, each of which was a success one row before its last."""
    success = changed(np.zeros(ROWS, np.bool_), -2, to=True)
    path = write(tmp_path / "foreign", [replace(episode, success=success) for episode in EPISODES[:3]])
    table = pq.read_table(path / EPISODES_FILE)
    pq.write_table(table.drop_columns(list(OURS)), path / EPISODES_FILE)
    return path


def edited(path, verb, *arguments):
    out = path.with_name(verb)
    assert main(["data", verb, str(path), *arguments, "--out", str(out)]) == 0
    return DatasetReader(out)


@pytest.mark.parametrize(("verb", "arguments", "kept"), [("drop", ["--episodes", "0"], 2), ("merge", [], 3)])
def test_an_episode_that_succeeded_before_its_last_row_is_a_success_once_edited(foreign, verb, arguments, kept):
    assert [episode.success for episode in DatasetReader(foreign).episodes] == [True] * 3
    reader = edited(foreign, verb, *arguments)
    assert [episode.success for episode in reader.episodes] == [True] * kept
    assert np.flatnonzero(reader.success[:ROWS]).tolist() == [ROWS - 2, ROWS - 1]


def test_an_instruction_that_changes_within_an_episode_changes_there_once_edited(tmp_path):
    def halfway(index):
        index[ROWS // 2 : ROWS] = 1

    written = write(tmp_path / "written", EPISODES[3:7])
    path = with_column(written, tmp_path / "foreign", "task_index", halfway)
    expected = ["reach the red cube"] * 10 + ["push the red cube"] * 10 + ["reach the red cube"] * 20
    for reader in (edited(path, "drop", "--episodes", "2"), edited(path, "merge")):
        assert [reader.instruction(row) for row in range(40)] == expected
        assert reader.episodes[0].instruction == "reach the red cube"
        tasks = pq.read_table(reader.path / EPISODES_FILE).column("tasks").to_pylist()
        assert tasks[:2] == [["reach the red cube", "push the red cube"], ["reach the red cube"]]


def test_merging_spells_every_instruction_of_an_episode_as_the_first_dataset_does(tmp_path):
    first = write(tmp_path / "first", [EPISODES[3], EPISODES[6]])
    other = write(tmp_path / "other", [record("reach", 20), record("push", 21, instruction="Push the red cube.")])
    changing = with_column(other, tmp_path / "changing", "task_index", lambda index: index.__setitem__(5, 1))
    reader = edited(first, "merge", str(changing))
    assert reader.instructions == ("reach the red cube", "push the red cube")
    assert np.flatnonzero(reader.task_index == 1).tolist() == [*range(ROWS, 2 * ROWS), 2 * ROWS + 5, *range(60, 80)]


@pytest.mark.parametrize(("part", "change", "reason"), MISFITS)
def test_a_spec_that_is_another_datasets_is_found_and_refused_by_what_needs_it(tmp_path, capfd, part, change, reason):
    written = write(tmp_path / "written", EPISODES[3:7])
    path = with_json(written, tmp_path / "bad", "robot_spec.json", lambda spec: change(spec[part]))
    (finding,) = check_dataset(path, Thresholds(fewest=1))
    assert (finding.check, finding.file) == ("columns", "meta/robot_spec.json") and reason in finding.found
    out = ["--out", str(tmp_path / "new")]
    edits = ("drop", "--episodes", "0", *out), ("merge", *out)
    for verb, *arguments in (("show",), ("show", "--episode", "1"), *edits):
        assert main(["data", verb, str(path), *arguments]) == 2
        error = capfd.readouterr().err
        assert f"{path}/meta/robot_spec.json: " in error and reason in error and len(error.splitlines()) == 1
    assert sorted(found.name for found in tmp_path.iterdir()) == ["bad", "written"]


def test_a_camera_that_the_spec_does_not_name_is_said_to_be_left_out(tmp_path, capfd):
    written = write(tmp_path / "written", EPISODES[3:7])
    path = with_json(written, tmp_path / "more", "robot_spec.json", lambda spec: spec["cameras"].pop())
    assert main(["data", "merge", str(path), "--out", str(tmp_path / "new")]) == 0
    assert f"not copied from {path}: observation.images.wrist" in capfd.readouterr().err

"""`embodied data` edits what another program wrote, and keeps what it says of each episode and row."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from embodied.cli import main
from embodied.recording.episodes import OURS
from embodied.recording.reader import DatasetReader
from tests.test_data_verb import EPISODES, ROWS, changed, record, with_column, write

EPISODES_FILE = "meta/episodes/chunk-000/file-000.parquet"


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

"""`embodied data` edits what another program wrote, and keeps what it says of each episode and row."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from embodied.cli import main
from embodied.recording.episodes import OURS
from embodied.recording.reader import DatasetReader
from tests.test_data_verb import EPISODES, ROWS, changed, write

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
    assert main(["data", verb, str(path), "--out", str(out), *arguments]) == 0
    return DatasetReader(out)


@pytest.mark.parametrize(("verb", "arguments", "kept"), [("drop", ["--episodes", "0"], 2), ("merge", [], 3)])
def test_an_episode_that_succeeded_before_its_last_row_is_a_success_once_edited(foreign, verb, arguments, kept):
    assert [episode.success for episode in DatasetReader(foreign).episodes] == [True] * 3
    reader = edited(foreign, verb, *arguments)
    assert [episode.success for episode in reader.episodes] == [True] * kept
    assert np.flatnonzero(reader.success[:ROWS]).tolist() == [ROWS - 2, ROWS - 1]

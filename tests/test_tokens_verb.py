"""`embodied tokens` compares bins and FAST on a recording, measures on held-out episodes, and refuses in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embodied.cli import main
from embodied.recording.episode import Episode
from embodied.recording.reader import DatasetReader
from embodied.recording.writer import DatasetWriter
from embodied.types import RobotSpec
from policies.action_tokens.bins import BinTokenizer
from policies.action_tokens.chunks import chunks_of
from policies.action_tokens.fast import FastTokenizer
from policies.lessons import VALIDATION_EVERY
from tests import toy_world

SPEC: RobotSpec = RobotSpec(
    "toy", 10.0, (), toy_world.make().spec.action, toy_world.make().spec.action, tasks=("reach",)
)
ROWS = 20


def swing(seed: int) -> np.ndarray:
    """Make the actions float32 (ROWS, 2) of an episode: slow sines."""
    phase, rate = np.random.default_rng(seed).uniform((0.0, 0.02), (6.0, 0.2), (2, 2)).T
    return (0.75 + 0.7 * np.sin(phase + rate * np.arange(ROWS)[:, None])).astype(np.float32)


def record(path: Path, episodes: int, change: Callable[[dict[str, np.ndarray], int], object] = lambda *_: None) -> Path:
    """Record episodes without cameras; change may alter the columns of the one numbered."""
    writer = DatasetWriter(path, SPEC)
    for seed in range(episodes):
        last, nothing = np.arange(ROWS) == ROWS - 1, np.zeros(ROWS, bool)
        columns = {"action": swing(seed), "perturbed": nothing.copy(), "intervention": nothing.copy(), "success": last}
        change(columns, seed)
        rest = {
            "state": columns["action"],
            "marker": nothing,
            "scene": nothing,
            "done": last,
            "text": ("",) * ROWS,
            "frames": {},
        }
        writer.add(Episode(task="reach", seed=seed, instruction="reach", labels={}, **rest, **columns))
    writer.finish()
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("swing") / "data", VALIDATION_EVERY)


def figures(capfd: pytest.CaptureFixture[str], *arguments: object) -> list:
    assert main(["tokens", "--json", *map(str, arguments)]) == 0
    return json.loads(capfd.readouterr().out)


def refusal(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["tokens", *map(str, arguments)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_it_learns_from_the_training_episodes_and_measures_on_the_held_out_one(dataset, capfd) -> None:
    (at_6, at_12) = figures(capfd, "--dataset", dataset, "--chunk", "6,12")
    assert (at_6["training_chunks"], at_6["measured_chunks"]) == (49 * (ROWS - 5), ROWS - 5)
    assert (at_12["training_chunks"], at_12["measured_chunks"], at_12["held_out_episodes"]) == (49 * 9, 9, 1)
    bins, fast = at_12["tokenizers"]["bins"], at_12["tokenizers"]["fast"]
    assert bins["tokens_mean"] == 24 and fast["tokens_mean"] < 24
    assert fast["rmse_share"] > bins["rmse_share"] and fast["undecoded"] == bins["undecoded"] == 0
    assert [field["name"] for field in fast["error"]] == ["pan", "gripper"]


def test_a_finer_scale_errs_less_and_takes_more_tokens(dataset, capfd) -> None:
    coarse, fine = (
        figures(capfd, "--dataset", dataset, "--chunk", "12", "--scale", scale, "--vocabulary", "4096")[0][
            "tokenizers"
        ]["fast"]
        for scale in (5, 50)
    )
    assert fine["rmse_share"] < coarse["rmse_share"] / 4 and fine["tokens_mean"] > coarse["tokens_mean"]


def test_the_page_tells_tokens_errors_failures_and_which_is_smaller(dataset, capfd) -> None:
    assert main(["tokens", "--dataset", str(dataset), "--chunk", "12"]) == 0
    page = capfd.readouterr().out
    assert "both measured on 9 of 1 held-out episodes (few" in page
    for words in ("tokens a chunk", "| pan ", "| gripper ", "one token changed", "cut short", "fast is smaller"):
        assert words in page


def test_what_it_writes_is_both_tokenizers_and_the_figures(dataset, tmp_path, capfd) -> None:
    printed = figures(capfd, "--dataset", dataset, "--chunk", "6,12", "--out", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written == printed
    folder = tmp_path / "out" / "chunk-12"
    assert FastTokenizer.load(folder / "fast").steps == BinTokenizer.load(folder / "bins").steps == 12
    assert "is not empty" in refusal(capfd, "--dataset", dataset, "--out", tmp_path / "out", "--chunk", "6")
    assert len(figures(capfd, "--dataset", dataset, "--out", tmp_path / "out", "--chunk", "6", "--force")) == 1
    assert not (tmp_path / "out" / "chunk-12").exists()


def test_a_dataset_without_a_held_out_episode_says_that_it_is_measured_on_itself(tmp_path, capfd) -> None:
    data = record(tmp_path / "small", 8)
    assert main(["tokens", "--dataset", str(data), "--chunk", "12"]) == 0
    assert "measured on the same: too good for FAST" in capfd.readouterr().out


def test_a_field_that_never_moves_is_named(tmp_path, capfd) -> None:
    def still(columns, _) -> None:
        columns["action"][:, 1] = 0.3

    (result,) = figures(capfd, "--dataset", record(tmp_path / "still", 8, still), "--chunk", "12")
    assert result["constant_fields"] == ["gripper"]


def test_no_chunk_has_a_disturbance_a_failure_or_two_episodes_in_it(tmp_path) -> None:
    def change(columns, seed) -> None:
        columns["perturbed"][9] = seed == 1
        columns["success"][:] &= seed != 2
        columns["success"][:] &= seed != 3
        columns["intervention"][10:] = seed == 3

    reader = DatasetReader(record(tmp_path / "mixed", 8, change), frames=False)
    whole = {0: range(11), 1: (0, 10), 2: (), 3: (10,), **dict.fromkeys(range(4, 8), range(11))}
    wanted = [reader.action[e * ROWS + i : e * ROWS + i + 10] for e, starts in whole.items() for i in starts]
    np.testing.assert_array_equal(chunks_of(reader, 10).training, wanted)


def test_bad_input_is_one_line_that_names_it_and_writes_nothing(dataset, tmp_path, capfd) -> None:
    few = record(tmp_path / "few", 2)
    broken = tmp_path / "nan"
    shutil.copytree(dataset, broken)
    (file,) = (broken / "data").rglob("*.parquet")
    table = pq.read_table(file)
    actions = np.array(table["action"].to_pylist(), np.float32)
    actions[25, 1] = np.nan
    column = table.schema.get_field_index("action")
    field = table.schema.field(column)
    pq.write_table(table.set_column(column, field, pa.array(actions.tolist(), field.type)), file)
    out = ("--out", tmp_path / "out")
    cases = [
        ((dataset, "--chunk", "21"), "a chunk of 21 steps is longer than every episode of"),
        ((few, "--chunk", "12"), "has 18 chunks of 12 steps to learn from"),
        ((broken, "--chunk", "12"), "'action' is nan at 'gripper' in row 25 (episode 1, frame 5)"),
        ((tmp_path / "absent",), "no such dataset"),
        ((dataset, "--chunk", "12", "--vocabulary", "20"), "raise --vocabulary or lower --scale"),
        ((dataset, "--chunk", "0"), "argument --chunk: must be at least 1"),
        ((dataset, "--chunk", "12,x"), "argument --chunk: must be a whole number"),
        ((dataset, "--scale", "nan"), "argument --scale: must be above 0 and finite"),
    ]
    for arguments, words in cases:
        assert words in refusal(capfd, "--dataset", *arguments, *out), arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "nan"]

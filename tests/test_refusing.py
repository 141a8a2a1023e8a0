"""A share of demonstrations is told another task's sentence and taught to stay put: which, how, and who cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.__main__ import main
from embodied.recording.reader import DatasetReader
from embodied.recording.writer import DatasetWriter
from embodied.types import Field
from policies.batch import Part
from policies.examples import Examples
from policies.layout import UNSUPERVISED, Ids
from policies.mixture import Mixture, Source
from policies.refusing import Refusing
from policies.values import decode_values, ranges
from policies.vocabulary import FIRST_VALUE, PAD
from tests.tiny_policy import TOY_PLAN, record_toy, tiny_vocabulary

VOCABULARY = tiny_vocabulary()
SENTENCES = ("reach the target", "push the target")
STEP = ranges(TOY_PLAN.spec.action)[1] * 2 / 1000  # of a bin, at most


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_toy(tmp_path_factory.mktemp("toy") / "data", episodes=4)


def mixed(reader: DatasetReader, share: float, **other: int) -> Part:
    """Return the examples of one batch."""
    mixture = Mixture([Source(Examples(reader, TOY_PLAN, VOCABULARY))], refusing=Refusing(share))
    (part,) = mixture.batch(4, size=64, seed=0, **other).parts
    return part


def told(part: Part) -> list[str]:
    """Return what the examples are told."""
    return [VOCABULARY.decode_text([t for t in row.tolist() if t != PAD]) for row in _words(part)]


def _words(part: Part) -> Ids:
    return part.sequences.tokens[:, TOY_PLAN.text]


def test_a_row_of_an_episode_that_says_several_things_is_refused_none_of_them(dataset: Path) -> None:
    reader = DatasetReader(dataset)
    task_index = reader.task_index.copy()
    first = reader.episodes[0]
    task_index[first.start + 2 : first.stop] = 1 - task_index[first.start]  # as foreign datasets have it
    reader.task_index = task_index
    examples = Examples(reader, TOY_PLAN, VOCABULARY)
    assert not examples.others(first.start) and not examples.others(first.stop - 1)


def test_who_is_refused_is_told_another_tasks_sentence_and_stays_where_it_is(dataset: Path) -> None:
    reader = DatasetReader(dataset)
    calm, some, all_of_them = (mixed(reader, share) for share in (0.0, 0.3, 0.999))
    assert {*told(calm)} == {*SENTENCES}
    swapped = dict(zip(SENTENCES, SENTENCES[::-1], strict=True))
    assert told(all_of_them) == [swapped[said] for said in told(calm)]

    refused = np.array([a != b for a, b in zip(told(some), told(calm), strict=True)])
    assert 8 < refused.sum() < 32
    for name in ("pose_targets", "locate_targets", "text_targets"):
        kept, were = getattr(some.sequences, name)[~refused], getattr(calm.sequences, name)[~refused]
        np.testing.assert_array_equal(kept[:, : were.shape[1]], were[:, : kept.shape[1]])
    assert (some.sequences.locate_targets[refused] == UNSUPERVISED).all()
    assert (some.sequences.text_targets[refused] == UNSUPERVISED).all()
    assert (calm.sequences.locate_targets[refused] != UNSUPERVISED).any()
    bins = some.sequences.pose_targets[refused]
    assert (bins != UNSUPERVISED).all()  # to the end of the chunk, where nothing of a demonstration is left too
    low, high = ranges(TOY_PLAN.spec.action)
    state = decode_values(some.sequences.tokens[refused][:, TOY_PLAN.state] - FIRST_VALUE, low, high)
    assert (np.abs(decode_values(bins, low, high) - state[:, None]) <= STEP).all()


def test_processes_refuse_the_same_examples_and_held_out_ones_are_never_refused(dataset: Path) -> None:
    reader = DatasetReader(dataset)
    whole, parts = mixed(reader, 0.5), [mixed(reader, 0.5, rank=rank, world=2) for rank in (0, 1)]
    assert told(whole)[0::2] == told(parts[0]) and told(whole)[1::2] == told(parts[1])
    held_out = replace(reader.episodes[0], index=49)
    reader.episodes = (held_out, *reader.episodes[1:])
    mixture = Mixture([Source(Examples(reader, TOY_PLAN, VOCABULARY))], refusing=Refusing(0.999))
    (batch,) = mixture.validation(size=16, batches=1)
    assert {*told(batch.parts[0])} == {held_out.instruction}


def test_scenes_teach_no_action_and_no_refusal(dataset: Path, tmp_path: Path) -> None:
    reader = DatasetReader(dataset)
    writer = DatasetWriter(tmp_path / "scenes", reader.spec, label_sizes={"target_position": 3})
    for index in range(2):
        episode = reader.episode(index)
        writer.add(replace(episode, scene=np.ones(len(episode), bool)))
    writer.finish()
    part = mixed(DatasetReader(tmp_path / "scenes"), 0.999)
    assert (part.sequences.pose_targets == UNSUPERVISED).all()
    assert (part.sequences.locate_targets != UNSUPERVISED).any()


def test_refusals_that_cannot_be_are_one_line_of_error(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = DatasetReader(dataset)
    one_task = _recorded(reader, tmp_path / "one", action=reader.spec.action, episodes=(0, 2))
    renamed = tuple(replace(f, name=f"motor_{f.name}") for f in reader.spec.action)
    unheld = _recorded(reader, tmp_path / "unheld", action=renamed, episodes=(0, 1))
    for data, share, said in (
        (dataset, "1", "the share of refusals is 1.0; it takes a number from 0 to below 1"),
        (one_task, "0.1", "--refuse takes another task's sentence, and each dataset has one task alone: ['reach']"),
        (unheld, "0.1", "action.motor_pan: no state field of this name to hold"),
    ):
        command = ["finetune", "--dataset", str(data), "--out", str(tmp_path / "run"), "--steps", "1"]
        assert main([*command, "--refuse", share]) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error
        assert not (tmp_path / "run").exists()


def _recorded(reader: DatasetReader, path: Path, action: tuple[Field, ...], episodes: tuple[int, ...]) -> Path:
    writer = DatasetWriter(path, replace(reader.spec, action=action), label_sizes={"target_position": 3})
    for index in episodes:
        writer.add(reader.episode(index))
    writer.finish()
    return path

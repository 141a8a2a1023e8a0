"""Demonstrations become the same batches every time, and teach only what was done undisturbed."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import EmbodiedError
from embodied.recording.reader import DatasetReader
from embodied.recording.survey import survey
from embodied.recording.writer import DatasetWriter
from policies.batch import Batch, Part
from policies.embodiments import labels_of
from policies.examples import Examples
from policies.layout import UNSUPERVISED, Plan
from policies.lessons import VALIDATION_EVERY
from policies.mixture import Draw, Mixture, Source
from policies.values import encode_values, ranges
from policies.vocabulary import FIRST_VALUE
from tests import toy_world
from tests.tiny_policy import TOY_PLAN, record_toy, tiny_vocabulary


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    return DatasetReader(record_toy(tmp_path_factory.mktemp("toy") / "data"))


@pytest.fixture(scope="module")
def examples(reader: DatasetReader) -> Examples:
    return Examples(reader, TOY_PLAN, tiny_vocabulary())


def rows_of(examples: Examples, *rows: int) -> Part:
    """Return these rows of the dataset as a batch has them."""
    drawn = Draw(np.zeros(len(rows), np.int64), np.array(rows), np.arange(len(rows)))
    return Mixture([Source(examples)]).make(drawn).parts[0]


def drawn(examples: Examples, first: int, last: int, seed: int = 0, threads: int = 1) -> list[Batch]:
    return list(Mixture([Source(examples)]).training(first, last, size=3, seed=seed, threads=threads))


def equal(one: Batch, other: Batch) -> bool:
    (mine,), (theirs,) = one.parts, other.parts
    arrays = zip(vars(mine.sequences).values(), vars(theirs.sequences).values(), strict=True)
    frames = zip(mine.frames, theirs.frames, strict=True)
    return all(np.array_equal(a, b) for a, b in arrays) and all(a.equal(b) for a, b in frames)


def leave_after_one(examples: Examples, batches: int) -> None:
    """Take the first of some batches and go; fail if the thread that makes them stays."""
    before = set(threading.enumerate())
    training = Mixture([Source(examples)]).training(0, batches, size=2, seed=0)
    next(training)
    started = set(threading.enumerate()) - before
    training.close()  # type: ignore[attr-defined]
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()


def test_a_failure_is_no_example_but_for_what_an_operator_did_in_it(tmp_path: Path) -> None:
    read = DatasetReader(record_toy(tmp_path / "d"))
    success = [False, True, False]
    read.episodes = tuple(replace(e, success=s) for e, s in zip(read.episodes, success, strict=True))
    rows = Examples(read, TOY_PLAN, tiny_vocabulary()).training_rows
    assert rows.tolist() == list(range(read.episodes[1].start, read.episodes[1].stop))
    read.intervention[[2, 3]] = True  # in the first, which failed all the same
    examples = Examples(read, TOY_PLAN, tiny_vocabulary())
    assert examples.training_rows.tolist() == [2, 3, *rows]
    learnt = (rows_of(examples, 2).sequences.pose_targets[0] != UNSUPERVISED).all(-1)
    assert learnt.tolist() == [True, True, False, False]  # the policy went on from there, and failed
    read.intervention[:] = False
    read.episodes = tuple(replace(e, success=False) for e in read.episodes)
    with pytest.raises(EmbodiedError, match="every episode is marked as a failure"):
        Examples(read, TOY_PLAN, tiny_vocabulary())


def test_of_a_scene_the_labels_are_learnt_and_no_action(tmp_path: Path) -> None:
    robot = toy_world.make()
    sizes = {"target_position": 3}
    writer = DatasetWriter(tmp_path / "d", robot.spec, label_sizes=sizes)
    for seed in range(2):
        writer.add(survey(robot, task="reach", seed=seed, pictures=3, label_sizes=sizes))
    writer.finish()
    read = DatasetReader(tmp_path / "d")
    examples = Examples(read, TOY_PLAN, tiny_vocabulary())
    assert len(examples.training_rows) == len(read) > 2
    sequences = rows_of(examples, *range(len(read))).sequences
    assert (sequences.pose_targets == UNSUPERVISED).all() and not sequences.visible[:, TOY_PLAN.pose].any()
    assert sequences.visible[:, TOY_PLAN.locate].all()
    assert (sequences.locate_targets[:, 0] != UNSUPERVISED).all()


def test_a_batch_is_made_from_its_number_alone(examples: Examples) -> None:
    all_at_once, later = drawn(examples, 0, 6), drawn(examples, 4, 6)
    assert len(all_at_once) == 6
    assert equal(all_at_once[4], later[0]) and equal(all_at_once[5], later[1])
    assert not equal(all_at_once[0], all_at_once[1])
    assert not equal(all_at_once[0], drawn(examples, 0, 1, seed=1)[0])
    assert all(map(equal, all_at_once, drawn(examples, 0, 6, threads=3)))


def test_a_row_is_its_observation_its_next_actions_and_its_labels(reader: DatasetReader, examples: Examples) -> None:
    batch = rows_of(examples, 0, 3)
    spec = reader.spec
    bins, _ = encode_values(reader.state[[0, 3]], *ranges(spec.state))
    np.testing.assert_array_equal(batch.sequences.tokens[:, TOY_PLAN.state], FIRST_VALUE + bins)
    for i, row in enumerate((0, 3)):
        np.testing.assert_array_equal(batch.frames[0][i].numpy(), reader.frame("front", row))
        bins, _ = encode_values(reader.action[row : row + TOY_PLAN.chunk], *ranges(spec.action))
        np.testing.assert_array_equal(batch.sequences.pose_targets[i], bins)
        bins, _ = encode_values(reader.labels["target_position"][row], *ranges(TOY_PLAN.labels[0].fields))
        np.testing.assert_array_equal(batch.sequences.locate_targets[i, 0], bins)


def test_a_chunk_stays_within_its_episode_and_nothing_is_learnt_beyond_the_end(
    reader: DatasetReader, examples: Examples
) -> None:
    last = reader.episodes[0].stop - 1
    bins, _ = encode_values(reader.action[last], *ranges(reader.spec.action))
    targets = rows_of(examples, last).sequences.pose_targets[0]
    np.testing.assert_array_equal(targets[0], bins)
    assert (targets[1:] == UNSUPERVISED).all()


def test_steps_after_a_disturbance_are_not_learnt_and_the_first_always_is(
    reader: DatasetReader, examples: Examples
) -> None:
    rows = np.arange(reader.episodes[1].start, reader.episodes[1].stop)  # the disturbed one
    asked = (rows_of(examples, *rows).sequences.pose_targets != UNSUPERVISED).all(-1)
    for row, learnt in zip(rows, asked, strict=True):
        steps = row + np.arange(TOY_PLAN.chunk)
        expected = [step <= rows[-1] and not reader.perturbed[row:step].any() for step in steps]
        assert learnt.tolist() == expected and learnt[0]
    assert reader.perturbed[rows].any() and not asked.all()


def test_the_text_action_is_learnt_where_there_is_one(reader: DatasetReader, examples: Examples) -> None:
    targets = rows_of(examples, *range(len(reader))).sequences.text_targets
    told = (targets != UNSUPERVISED).any(1)
    assert told.tolist() == [bool(text) for text in reader.text]
    assert told.any() and not told.all()


def test_whole_episodes_are_held_out_and_never_trained_on(tmp_path: Path) -> None:
    reader = DatasetReader(record_toy(tmp_path / "data", episodes=VALIDATION_EVERY))
    reader.episodes = tuple(replace(e, success=True) for e in reader.episodes)
    examples = Examples(reader, TOY_PLAN, tiny_vocabulary())
    held_out = reader.episodes[VALIDATION_EVERY - 1]
    assert examples.validation_rows.tolist() == list(range(held_out.start, held_out.stop))
    assert examples.training_rows.tolist() == list(range(held_out.start))
    first, second = (list(Mixture([Source(examples)]).validation(size=2, batches=2)) for _ in range(2))
    assert len(first) == 2 and all(equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_dataset_of_which_all_that_succeeded_is_held_out_is_refused(tmp_path: Path) -> None:
    reader = DatasetReader(record_toy(tmp_path / "data", episodes=VALIDATION_EVERY))
    last = VALIDATION_EVERY - 1
    reader.episodes = tuple(replace(e, success=e.index == last) for e in reader.episodes)
    with pytest.raises(EmbodiedError, match="all that succeeded is held out; there is nothing to learn from"):
        Examples(reader, TOY_PLAN, tiny_vocabulary())


def test_a_small_dataset_holds_nothing_out(examples: Examples) -> None:
    assert list(Mixture([Source(examples)]).validation(size=2, batches=2)) == []


def test_a_consumer_that_leaves_lets_the_thread_go(examples: Examples) -> None:
    leave_after_one(examples, 1000)
    leave_after_one(examples, 5)  # four wait in the queue, and the end of them finds it full


def test_what_goes_wrong_in_the_thread_is_raised_to_the_consumer(reader: DatasetReader) -> None:
    broken = Examples(reader, TOY_PLAN, tiny_vocabulary())
    broken.training_rows = np.array([len(reader) + 7])
    with pytest.raises(IndexError):
        drawn(broken, 0, 1)


def test_an_instruction_longer_than_the_plan_takes_is_refused(reader: DatasetReader) -> None:
    short = Plan(TOY_PLAN.spec, TOY_PLAN.labels, TOY_PLAN.chunk, text_length=2, latents=2)
    with pytest.raises(EmbodiedError, match="the plan takes 2"):
        Examples(reader, short, tiny_vocabulary())


def test_labels_take_their_ranges_from_the_data(reader: DatasetReader) -> None:
    (label,) = labels_of([reader])
    values = reader.labels["target_position"]
    low, high = ranges(label.fields)
    assert label.name == "target_position"
    assert (low < values.min(0)).all() and (high > values.max(0)).all()
    np.testing.assert_allclose(high - low, np.ptp(values, axis=0) * 1.1, rtol=0.01)


def test_a_label_that_was_never_known_is_none_and_goes_without_a_warning(tmp_path: Path) -> None:
    reader = DatasetReader(record_toy(tmp_path / "data", episodes=1))
    reader.labels["goal_position"] = np.full((len(reader), 3), np.nan, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [label.name for label in labels_of([reader])] == ["target_position"]

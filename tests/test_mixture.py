"""Datasets of several robots, with what they lack, and plain text, in one run: what is drawn, and what is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embodied.errors import EmbodiedError, SpecMismatchError
from embodied.recording.reader import DatasetReader
from embodied.recording.writer import DatasetWriter
from embodied.types import Field, Limits
from policies.batch import Batch
from policies.denoising import CELL_SHARE, GREY, MODES, Denoising, colours, hide
from policies.embodiments import labels_of, require_part, unite
from policies.examples import Examples
from policies.layout import UNSUPERVISED
from policies.losses import compute_losses, count
from policies.mixture import Mixture, Source, shares
from policies.model import ModelConfig, PolicyModel
from policies.texts import Texts
from policies.vocabulary import DENOISE_R, DENOISE_S, DENOISE_X, FRAME, IMAGE, MASK, PAD, QUERY, STATE, TEXT
from tests.tiny_policy import CONFIG, TOY_LABEL, TOY_PLAN, record_toy, tiny_vocabulary

VOCABULARY = tiny_vocabulary()
NOISY = replace(TOY_PLAN, rebuild=4, history=2)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    return DatasetReader(record_toy(tmp_path_factory.mktemp("toy") / "data"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("reach the red cube\n\npush the blue cube into the bowl\n")
    return Texts(path, VOCABULARY)


def named(reader: DatasetReader, name: str, **changes: object) -> DatasetReader:
    """Return the dataset as if another robot, or one with other fields, had made it."""
    other = DatasetReader(reader.path)
    other.spec = replace(reader.spec, name=name, **changes)  # type: ignore[arg-type]
    return other


def test_a_robots_datasets_make_one_spec_of_all_that_any_of_them_has(reader: DatasetReader) -> None:
    spec = reader.spec
    lacking = named(reader, "toy", cameras=(), state=spec.state[:1])
    assert unite([lacking, reader])["toy"].state == spec.state
    assert unite([reader, lacking]) == {"toy": spec}
    assert set(unite([reader, named(reader, "other")])) == {"toy", "other"}
    require_part(spec, lacking.spec, expected="the checkpoint")


def test_datasets_that_disagree_are_refused_with_every_difference(reader: DatasetReader) -> None:
    wider = (replace(reader.spec.state[0], high=99.0), *reader.spec.state[1:])
    other = named(reader, "toy", state=wider, control_hz=99.0)
    with pytest.raises(SpecMismatchError) as refusal:
        unite([reader, other])
    assert "control_hz" in str(refusal.value) and f"state {wider[0].name}" in str(refusal.value)
    with pytest.raises(SpecMismatchError, match="unexpected"):
        require_part(replace(reader.spec, state=()), reader.spec, expected="the checkpoint")


def test_sources_are_drawn_by_the_square_root_of_their_size_times_their_weight(
    reader: DatasetReader, texts: Texts
) -> None:
    examples = Examples(reader, TOY_PLAN, VOCABULARY)
    sizes = np.array([len(examples), 2]) ** 0.5
    np.testing.assert_allclose(shares([Source(examples), Source(texts)]), sizes / sizes.sum())
    np.testing.assert_allclose(shares([Source(examples, weight=0.0), Source(texts)]), [0, 1])
    old = shares([Source(examples), Source(texts), Source(examples, share=0.25)])
    np.testing.assert_allclose(old, [*(0.75 * sizes / sizes.sum()), 0.25])
    with pytest.raises(EmbodiedError, match="leave nothing"):
        shares([Source(examples), Source(texts, share=1.0)])
    mixture = Mixture([Source(examples), Source(texts, share=0.5)])
    drawn = np.concatenate([mixture.draw(i, size=64, seed=0).source for i in range(20)])
    assert 0.45 < drawn.mean() < 0.55


@pytest.mark.parametrize("given", [[0.2], [0.5, 0.4], [0.7, 0.7]])
def test_shares_are_never_other_ones_than_were_asked_for(reader: DatasetReader, given: list[float]) -> None:
    examples = Examples(reader, TOY_PLAN, VOCABULARY)
    with pytest.raises(EmbodiedError, match=rf"{sum(given):g}, and there is no other dataset; they must sum to 1"):
        shares([Source(examples, share=share) for share in given])
    thirds = shares([Source(examples, share=share) for share in (0.7, 0.2, 0.1)])  # 0.9999999999999999
    np.testing.assert_allclose(thirds, [0.7, 0.2, 0.1])
    with pytest.raises(EmbodiedError, match="sum to 0"):
        shares([Source(examples, weight=0.0)])


def test_processes_share_a_batch_out_and_none_is_seen_twice(reader: DatasetReader, texts: Texts) -> None:
    mixture = Mixture([Source(Examples(reader, TOY_PLAN, VOCABULARY)), Source(texts)])
    whole = mixture.batch(3, size=8, seed=1)
    parts = [mixture.batch(3, size=8, seed=1, rank=rank, world=2) for rank in range(2)]
    assert [len(part) for part in parts] == [4, 4]
    assert sorted(map(tuple, _states(whole))) == sorted(map(tuple, [*_states(parts[0]), *_states(parts[1])]))
    counts = [count(part) for part in parts]
    assert {name: sum(c[name] for c in counts) for name in ("pose", "locate")} == {
        name: count(whole)[name] for name in ("pose", "locate")
    }


def _states(batch: Batch) -> np.ndarray:
    return np.concatenate([p.sequences.tokens[:, p.plan.state] for p in batch.parts if p.plan])


def test_what_a_dataset_lacks_is_neither_seen_nor_learnt(reader: DatasetReader, tmp_path: Path) -> None:
    spec = replace(reader.spec, cameras=(), state=reader.spec.state[:1], action=reader.spec.action[:1], limits=Limits())
    writer = DatasetWriter(tmp_path / "lacking", spec, label_sizes={"target_position": 3})
    whole = reader.episode(0)
    writer.add(replace(whole, frames={}, state=whole.state[:, :1], action=whole.action[:, :1]))
    writer.finish()
    mixture = Mixture([Source(Examples(DatasetReader(tmp_path / "lacking"), TOY_PLAN, VOCABULARY))])
    (part,) = mixture.batch(0, size=4, seed=0).parts
    visible = part.sequences.visible
    assert not any(visible[:, slots].any() for slots in TOY_PLAN.images)
    assert visible[:, TOY_PLAN.state].tolist() == [[True, *[False] * (len(reader.spec.state) - 1)]] * 4
    assert (part.sequences.pose_targets[..., 1:] == UNSUPERVISED).all()
    assert (part.sequences.pose_targets[..., 0] != UNSUPERVISED).any()


@pytest.mark.parametrize("lack", ["state", "cameras", "instruction"])
def test_a_robot_without_a_state_a_camera_or_words_learns_from_what_it_has(
    reader: DatasetReader, tmp_path: Path, lack: str
) -> None:
    spec = reader.spec if lack == "instruction" else replace(reader.spec, **{lack: ()})  # type: ignore[arg-type]
    writer = DatasetWriter(tmp_path / "lacking", spec, label_sizes={"target_position": 3})
    whole = reader.episode(0)
    without = {"state": {"state": whole.state[:, :0]}, "cameras": {"frames": {}}, "instruction": {"instruction": ""}}
    writer.add(replace(whole, **without[lack]))  # type: ignore[arg-type]
    writer.finish()
    lacking = DatasetReader(tmp_path / "lacking")
    for plan in (NOISY, replace(NOISY, spec=spec)):
        source = Source(Examples(lacking, plan, VOCABULARY))
        (part,) = Mixture([source], denoising=Denoising(0.9)).batch(0, size=48, seed=0).parts
        asked = {STATE: part.sequences.state_targets, IMAGE: part.sequences.cell_targets}
        hidden = [of for of, targets in asked.items() if (targets != UNSUPERVISED).any()]
        hidden += [TEXT] * bool((part.sequences.tokens[:, plan.text] == MASK).any())
        without_any = {"state": STATE, "cameras": IMAGE, "instruction": TEXT}[lack]
        assert hidden == [of for of in (STATE, IMAGE, TEXT) if of != without_any]
        strides = (4,) * len(plan.spec.cameras)
        model = PolicyModel([plan], replace(CONFIG, strides=strides), VOCABULARY.size)
        batch = Batch((part,))
        losses = compute_losses(batch, model(batch))
        assert losses.total.isfinite() and losses.terms["pose"] > 0


def test_several_robots_and_text_learn_in_one_step(reader: DatasetReader, texts: Texts) -> None:
    other = replace(NOISY, spec=replace(NOISY.spec, name="other"), chunk=2, rebuild=0)
    sources = [Examples(reader, NOISY, VOCABULARY), Examples(named(reader, "other"), other, VOCABULARY), texts]
    mixture = Mixture([Source(s) for s in sources], width=96, denoising=Denoising(0.5))
    torch.manual_seed(0)
    model = PolicyModel(mixture.plans, ModelConfig(**{**vars(CONFIG), "strides": (4,)}), VOCABULARY.size)
    batch = mixture.batch(0, size=48, seed=0)
    assert [part.plan and part.plan.spec.name for part in batch.parts] == ["toy", "other", None]
    losses = compute_losses(batch, model(batch))
    assert set(losses.terms) == {"pose", "locate", "text", "look", "state", "cells"} and losses.total.isfinite()
    torch.autograd.backward(losses.total)
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []


def test_history_shows_earlier_frames_of_the_same_episode(reader: DatasetReader) -> None:
    plan = replace(TOY_PLAN, history=2, history_stride=2)
    examples = Examples(reader, plan, VOCABULARY)
    start = reader.episodes[1].start
    samples = examples.samples(np.array([start, start + 3, start + 5]))
    assert samples.remembered.tolist() == [[False, False], [True, False], [True, True]]
    np.testing.assert_array_equal(samples.past[2, 1], reader.frame("front", start + 1))
    assert not samples.past[0].any()


def test_a_number_that_is_not_known_is_not_what_is_hidden(reader: DatasetReader) -> None:
    more = tuple(Field(f"of another {i}", "", 0.0, 1.0) for i in range(8))
    plan = replace(NOISY, spec=replace(reader.spec, state=(*more, *reader.spec.state)))
    mixture = Mixture([Source(Examples(reader, plan, VOCABULARY))], denoising=Denoising(1.0, (STATE,)))
    (part,) = mixture.batch(0, size=24, seed=0).parts
    assert (part.sequences.state_targets != UNSUPERVISED).any(1).all()


@pytest.mark.parametrize("mode", MODES)
def test_something_is_hidden_but_for_text_that_is_all_to_come(mode: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        hidden = hide(mode, 8, CELL_SHARE, rng)
        assert hidden.any()
        if mode == DENOISE_S:
            assert hidden[hidden.argmax() :].all()
        if mode == DENOISE_X:
            assert hidden.sum() == 6 and hidden[hidden.argmax() :][:6].all()


def denoised(reader: DatasetReader, modality: int) -> tuple[Batch, Batch]:
    """Return a batch of which something of a modality is hidden, and the same with nothing hidden."""
    sources = [Source(Examples(reader, NOISY, VOCABULARY))]
    return (
        Mixture(sources, denoising=Denoising(1.0, (modality,))).batch(5, size=24, seed=0),
        Mixture(sources).batch(5, size=24, seed=0),
    )


def test_hidden_numbers_of_the_state_are_told_and_nothing_else_is_asked(reader: DatasetReader) -> None:
    (noisy,), (calm,) = (batch.parts for batch in denoised(reader, STATE))
    tokens, hidden = noisy.sequences.tokens[:, NOISY.state], noisy.sequences.state_targets != UNSUPERVISED
    assert hidden.any(1).all() and ((tokens == MASK) == hidden).all()
    assert (noisy.sequences.pose_targets == UNSUPERVISED).all()
    assert not noisy.sequences.visible[:, NOISY.pose].any() and calm.sequences.visible[:, NOISY.pose].all()
    assert (noisy.sequences.tokens[:, NOISY.mode.start + 1] == STATE).all()
    assert set(noisy.sequences.tokens[:, NOISY.mode.start].tolist()) == set(MODES)


def test_hidden_words_are_written(reader: DatasetReader) -> None:
    (noisy,), (calm,) = (batch.parts for batch in denoised(reader, TEXT))
    for row, mode in enumerate(noisy.sequences.tokens[:, NOISY.mode.start]):
        said = [t for t in calm.sequences.tokens[row, NOISY.text].tolist() if t != PAD]
        shown = [t for t in noisy.sequences.tokens[row, NOISY.text].tolist() if t != PAD]
        asked = [t for t in noisy.sequences.text_targets[row].tolist() if t != UNSUPERVISED][:-1]
        assert shown != said and asked
        assert (shown + asked == said) if mode == DENOISE_S else (asked == said and MASK in shown)


def test_hidden_cells_of_a_frame_are_told_by_their_colours(reader: DatasetReader) -> None:
    (noisy,), (calm,) = (batch.parts for batch in denoised(reader, IMAGE))
    assert (noisy.sequences.tokens[:, NOISY.cells] == QUERY).all()
    assert (noisy.sequences.tokens[:, NOISY.images[0]] == FRAME).all()
    for row, mode in enumerate(noisy.sequences.tokens[:, NOISY.mode.start]):
        asked = (noisy.sequences.cell_targets[row] != UNSUPERVISED).all(-1)
        before, after = calm.frames[0][row].numpy(), noisy.frames[0][row].numpy()
        if mode == DENOISE_S:
            assert asked.all() and np.array_equal(before, after)
            continue
        assert asked.any() and not asked.all()
        np.testing.assert_array_equal(noisy.sequences.cell_targets[row][asked], colours(before, 4)[asked])
        grey = (after.reshape(4, before.shape[0] // 4, 4, -1, 3) == GREY).all((1, 3, 4)).ravel()
        assert (grey == asked).all()
        assert (mode == DENOISE_R) or asked.sum() == 12


def test_text_is_cut_at_random_and_prompts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "reach", "answer": "the red cube"}\n{"answer": "push the blue cube"}\n')
    pairs = Texts(path, VOCABULARY)
    sequences = pairs.sequences(np.array([0, 1, 1, 1]), [np.random.default_rng(i) for i in range(4)])
    assert [t for t in sequences.tokens[0, 1 : sequences.prefix].tolist() if t] == VOCABULARY.encode_text("reach")
    assert len({tuple(row) for row in sequences.tokens[1:].tolist()}) > 1
    for bad, said in (("{}", "line 1 is no object with an 'answer'"), ("", "no text in it")):
        path.write_text(bad)
        with pytest.raises(EmbodiedError, match=said):
            Texts(path, VOCABULARY)
    with pytest.raises(EmbodiedError, match="cannot be read as text"):
        Texts(tmp_path / "none.txt", VOCABULARY)


def test_a_number_that_is_none_is_named_with_its_row(tmp_path: Path) -> None:
    reader = DatasetReader(record_toy(tmp_path / "data"))
    reader.action = reader.action.copy()
    reader.action[7, 1] = np.nan
    with pytest.raises(EmbodiedError, match=rf"nan at '{reader.spec.action[1].name}' in row 7"):
        Examples(reader, TOY_PLAN, VOCABULARY)


def test_labels_of_several_datasets_have_one_range_and_must_be_of_one_size(reader: DatasetReader) -> None:
    other = DatasetReader(reader.path)
    other.labels = {"target_position": reader.labels["target_position"] + 100}
    (label,) = labels_of([reader, other])
    assert label.fields[0].high > 100 > TOY_LABEL.fields[0].high and label.fields[0].low < 1
    other.labels = {"target_position": reader.labels["target_position"][:, :2]}
    with pytest.raises(EmbodiedError, match="'target_position' has another size"):
        labels_of([reader, other])


def test_a_mixture_without_demonstrations_is_refused(texts: Texts) -> None:
    with pytest.raises(EmbodiedError, match="no demonstration"):
        Mixture([Source(texts)])

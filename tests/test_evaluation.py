"""Several robots in one run: measured is all that is held out, and who is not in the data stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embodied.recording.reader import DatasetReader
from policies.batch import Batch
from policies.checkpoint import Checkpoint
from policies.examples import Examples
from policies.layout import UNSUPERVISED
from policies.losses import compute_losses, count, mean_bins
from policies.mixture import Mixture, Source
from policies.model import PolicyModel
from policies.training import evaluation
from policies.training.config import Given, TrainConfig
from policies.training.run import Run
from policies.training.team import Team
from policies.values import BINS
from tests.tiny_policy import CONFIG, TOY_PLAN, record_toy, tiny_vocabulary

OTHER = replace(TOY_PLAN, spec=replace(TOY_PLAN.spec, name="blind", cameras=()), labels=())


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    """Return two robots, of whom one has neither labels nor cameras and nearly all that is held out."""
    path, vocabulary = record_toy(tmp_path_factory.mktemp("toy") / "data"), tiny_vocabulary()
    seeing, blind = DatasetReader(path), DatasetReader(path)
    blind.spec, blind.labels = OTHER.spec, {}
    few, many = Examples(seeing, TOY_PLAN, vocabulary), Examples(blind, OTHER, vocabulary)
    few.validation_rows, many.validation_rows = np.arange(9), np.arange(len(blind))
    return Mixture([Source(few), Source(many)])


@pytest.fixture
def run(mixture: Mixture, tmp_path: Path) -> Run:
    torch.manual_seed(0)
    vocabulary = tiny_vocabulary()
    model = PolicyModel(mixture.plans, replace(CONFIG, strides=(4,)), vocabulary.size)
    config = TrainConfig((Given(tmp_path),), tmp_path, 1, precision="fp32")
    return Run(config, Checkpoint(model, vocabulary, frozenset(), {}), Team())


def test_held_out_losses_are_those_of_all_held_out_examples_in_one_batch(
    run: Run, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "SIZE", 3)
    batches = list(mixture.validation(size=3, batches=evaluation.BATCHES))
    assert len({tuple(part.plan.spec.name for part in batch.parts if part.plan) for batch in batches}) > 1
    found = evaluation.evaluate(run, mixture)
    whole = Batch(tuple(part for batch in batches for part in batch.parts))
    with run.averaged(), torch.no_grad():
        answers = run.model(whole)
        losses = compute_losses(whole, answers)
    gaps = []
    for part, answer in zip(whole.parts, answers, strict=True):
        gap = np.abs(mean_bins(answer.pose).numpy() - part.sequences.pose_targets) / BINS
        gaps.append(gap[part.sequences.pose_targets != UNSUPERVISED])
    known = [name for name, number in count(whole).items() if number]
    expected = {f"held_out_loss_{name}": float(losses.terms[name]) for name in known if name in losses.terms}
    expected |= {"held_out_loss": float(losses.total), "pose_error": float(np.concatenate(gaps).mean())}
    assert {"held_out_loss_pose", "held_out_loss_locate"} <= expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["target_position"] > 0


def test_nothing_is_measured_where_nothing_is_held_out(
    run: Run, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in mixture.sources:
        monkeypatch.setattr(source.data, "validation_rows", np.arange(0))
    assert evaluation.evaluate(run, mixture) == {}


def test_a_robot_that_is_not_in_the_data_keeps_its_weights_while_others_learn(mixture: Mixture, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vocabulary = tiny_vocabulary()
    model = PolicyModel(mixture.plans, replace(CONFIG, strides=(4,)), vocabulary.size)
    only = Mixture(mixture.sources[:1])
    model.freeze_unused(only.plans, only.cameras, rebuild=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = TrainConfig((Given(tmp_path),), tmp_path, 2, learning_rate=0.1, weight_decay=0.5, precision="fp32")
    run = Run(config, Checkpoint(model, vocabulary, frozenset(), {}), Team())
    for number in range(2):
        run.learn([only.batch(number, size=4, seed=0)])
    for state in (model.state_dict(), run.average):
        kept = {name for name, tensor in state.items() if torch.equal(tensor, before[name]) and tensor.numel()}
        assert kept == {name for name in state if name.startswith("ports.blind.") and state[name].numel()}

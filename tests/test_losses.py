"""The loss falls as answers come near what is supervised, and nothing else has a gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from embodied.types import Camera
from policies.batch import Batch, Part
from policies.layout import UNSUPERVISED, Plan, Sequences, lay_out
from policies.losses import Losses, compute_losses, likely_bins, mean_bins, quantile_bins
from policies.model import Answers
from policies.vocabulary import FIRST_TEXT
from tests.tiny_policy import PLAN

GRID, HEADS, SIZE = (8, 8), 2, FIRST_TEXT + 8
BOX = np.array([[0.0, 0.0, 0.49, 0.49]])  # the upper left quarter of the first camera's frame


def supervise(plan: Plan = PLAN, *, text: list[int] | None = None, steps: int = 3, box: bool = True) -> Sequences:
    labels = {"goal_box": BOX if box else np.full((1, 4), np.nan), "target": np.zeros((1, 3))}
    return lay_out(
        plan,
        instruction=[[FIRST_TEXT]],
        state=np.zeros((1, 4)),
        labels=labels,
        chunk=np.zeros((1, plan.chunk, 3)),
        supervised=np.arange(plan.chunk)[None] < steps,
        text=[[FIRST_TEXT + 1, FIRST_TEXT + 2] if text is None else text],
    )


def answer(
    sequences: Sequences, *, cell: tuple[int, int] | None = None, grid: tuple[int, int] = GRID, seed: int = 0
) -> Answers:
    generator = torch.Generator().manual_seed(seed)
    looked = torch.full((1, PLAN.latents, HEADS, *grid), 0.0 if cell else 1.0 / (grid[0] * grid[1]))
    if cell is not None:
        looked[..., cell[0], cell[1]] = 1.0
    return Answers(
        locate=torch.randn(1, 2, 4, 1000, generator=generator).requires_grad_(),
        pose=torch.randn(1, PLAN.chunk, 3, 1000, generator=generator).requires_grad_(),
        text=torch.randn(1, sequences.text_targets.shape[1], SIZE, generator=generator).requires_grad_(),
        state=None,
        cells=None,
        visible=torch.from_numpy(sequences.visible),
        looked=[looked.requires_grad_()],
        cache=None,
    )


def point(targets: np.ndarray, off: int = 0) -> Tensor:
    """Return logits that are sure of the targets' bins, or of those some bins off."""
    bins = torch.from_numpy(targets).clamp(min=0)
    return 30.0 * torch.nn.functional.one_hot((bins + off).clamp(0, 999), 1000).float()


def losses(sequences: Sequences, answers: Answers, plan: Plan = PLAN) -> Losses:
    return compute_losses(Batch((Part(plan, sequences, []),)), [answers])


def test_the_nearer_the_pose_the_lower_its_loss() -> None:
    sequences = supervise()
    found = [
        float(losses(sequences, replace(answer(sequences), pose=point(sequences.pose_targets, off))).terms["pose"])
        for off in (0, 2, 20, 200)
    ]
    assert found == sorted(set(found))


@pytest.mark.parametrize("name", ["pose", "locate"])
def test_unsupervised_slots_have_no_gradient(name: str) -> None:
    sequences = supervise(steps=2, box=False)
    answers = answer(sequences)
    torch.autograd.backward(losses(sequences, answers).total)
    gradient = getattr(answers, name).grad
    asked = torch.from_numpy(getattr(sequences, f"{name}_targets") != UNSUPERVISED)
    assert (gradient[~asked] == 0).all() and (gradient[asked].abs().sum(-1) > 0).all()


def test_an_example_of_one_known_step_weighs_as_much_as_one_of_a_whole_chunk() -> None:
    one, whole = supervise(steps=1), supervise(steps=PLAN.chunk)
    targets = np.concatenate([one.pose_targets, whole.pose_targets])
    twice = {name: np.concatenate([getattr(one, name)] * 2) for name in vars(one) if name != "prefix"}
    both = replace(one, **{**twice, "pose_targets": targets})
    answers = answer(one)
    alone = [float(losses(sequences, answers).terms["pose"].detach()) for sequences in (one, whole)]
    doubled = {name: torch.cat([getattr(answers, name)] * 2) for name in ("locate", "pose", "text", "visible")}
    together = losses(both, replace(answers, **doubled, looked=[torch.cat([answers.looked[0]] * 2)]))
    assert float(together.terms["pose"].detach()) == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_likely_bins_choose_one_of_two_answers_where_their_mean_is_neither() -> None:
    logits = torch.zeros(1000)
    logits[200], logits[800] = 20.0, 19.5
    assert 200 <= float(likely_bins(logits)) < 201
    assert 300 < float(mean_bins(logits)) < 700


def test_a_quantile_is_the_bin_that_a_share_of_the_distribution_ends_in() -> None:
    logits = torch.full((1000,), -40.0)
    logits[[200, 500, 800]] = torch.tensor([0.6, 0.3, 0.1]).log()
    shares = torch.tensor([0.0, 0.1, 0.59, 0.61, 0.89, 0.91, 1.0])
    assert quantile_bins(logits.expand(len(shares), -1), shares).tolist()[1:-1] == [200, 200, 500, 500, 800]
    assert 0 <= int(quantile_bins(logits, shares[0])) <= 200 and 800 <= int(quantile_bins(logits, shares[-1])) <= 999


def test_text_is_learnt_up_to_its_end_and_no_further() -> None:
    sequences = supervise()
    answers = answer(sequences)
    torch.autograd.backward(losses(sequences, answers).total)
    assert answers.text.grad is not None
    assert (answers.text.grad[0].abs().sum(-1) > 0).tolist() == [True, True, True, False]


def test_a_batch_without_text_or_boxes_has_a_finite_loss_and_gradient() -> None:
    sequences = supervise(text=[], box=False)
    answers = answer(sequences)
    found = losses(sequences, answers)
    torch.autograd.backward(found.total)
    assert found.terms["text"].item() == 0.0 and found.terms["look"].item() == 0.0 and torch.isfinite(found.total)
    for tensor in (answers.text, answers.pose, answers.locate, answers.looked[0]):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()
    assert answers.text.grad is None or (answers.text.grad == 0).all()


def test_the_look_loss_falls_as_attention_moves_into_the_box() -> None:
    sequences = supervise()
    outside, spread, inside = (
        float(losses(sequences, answer(sequences, cell=c)).terms["look"]) for c in ((7, 7), None, (0, 0))
    )
    assert inside == pytest.approx(0.0, abs=1e-5)
    assert spread == pytest.approx(np.log(4), abs=1e-3)
    assert outside > 10


def test_only_the_labels_called_a_box_say_where_to_look() -> None:
    sequences = supervise()
    answers = answer(sequences)
    torch.autograd.backward(losses(sequences, answers).terms["look"])
    assert answers.looked[0].grad is not None
    assert (answers.looked[0].grad[0].abs().sum((1, 2, 3)) > 0).tolist() == [True, False, False]


def test_a_box_in_another_cameras_frame_is_looked_at_there() -> None:
    wrist = PLAN.spec.cameras[1].name
    label = replace(PLAN.labels[0], name=f"goal_box_{wrist}")
    plan = replace(PLAN, labels=(PLAN.labels[1], label))
    sequences = lay_out(plan, instruction=[[FIRST_TEXT]], state=np.zeros((1, 4)), labels={label.name: BOX})
    there, elsewhere = (answer(sequences, cell=cell).looked[0] for cell in ((0, 0), (7, 7)))

    def look(*looked: Tensor) -> float:
        answers = replace(answer(sequences), looked=list(looked))
        return float(compute_losses(Batch((Part(plan, sequences, []),)), [answers]).terms["look"])

    assert look(elsewhere, there) == pytest.approx(0.0, abs=1e-5)
    assert look(there, elsewhere) > 10


@pytest.mark.parametrize("grid", [(8, 16), (6, 10), (7, 13), (18, 32), (24, 24), (4, 4)])
def test_a_frame_is_looked_at_by_the_rows_and_columns_that_its_model_has(grid: tuple[int, int]) -> None:
    cameras = (Camera("front", 48, 128, 45.0), *PLAN.spec.cameras[1:])  # which an encoder may squeeze into a square
    plan = replace(PLAN, spec=replace(PLAN.spec, cameras=cameras))
    sequences = supervise(plan)
    rows, columns = grid
    for cell, seen in (((0, 0), True), ((0, 1), True), ((0, columns - 1), False), ((rows - 1, 0), False)):
        look = float(losses(sequences, answer(sequences, cell=cell, grid=grid), plan).terms["look"])
        assert (look < 0.01) == seen


def test_the_total_weighs_the_auxiliaries_less_than_the_pose() -> None:
    sequences = supervise()
    found = losses(sequences, answer(sequences))
    expected = found.terms["pose"] + 0.5 * found.terms["locate"] + 0.1 * found.terms["text"] + 0.2 * found.terms["look"]
    torch.testing.assert_close(found.total, expected)


def test_the_mean_bin_is_the_expectation() -> None:
    logits = torch.full((1000,), -1e9)
    logits[[100, 200]] = 0.0
    assert float(mean_bins(logits)) == pytest.approx(150.0)
    assert float(mean_bins(torch.zeros(1000))) == pytest.approx(499.5, abs=1e-2)

"""Packed and padded examples are answered and learnt from alike, and rows are well filled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.batch import Batch, Part, pack
from policies.layout import Gaps, Plan, lay_out, lay_out_text
from policies.losses import Losses, Objective, compute_losses, count
from policies.model import ModelConfig, PolicyModel
from policies.packing import NOBODY, arrange, best_fit
from policies.vocabulary import FIRST_TEXT
from tests.tiny_policy import CONFIG, LABELS, PLAN, tiny_vocabulary

SAY = [[FIRST_TEXT + 5, FIRST_TEXT + 6, FIRST_TEXT + 7], [FIRST_TEXT + 9], [FIRST_TEXT + i for i in range(8)]]
OTHER = Plan(replace(PLAN.spec, name="other"), LABELS[:1], chunk=3, text_length=6, latents=PLAN.latents)


def part(plan: Plan, count: int, *, seed: int = 0, gaps: Gaps | None = None) -> Part:
    rng = np.random.default_rng(seed)
    sequences = lay_out(
        plan,
        instruction=[say[: plan.text_length] for say in SAY[:count]],
        state=rng.uniform(0, 0.08, (count, len(plan.spec.state))),
        labels={"goal_box": rng.uniform(0, 1, (count, 4))},
        chunk=rng.uniform(0, 0.08, (count, plan.chunk, len(plan.spec.action))),
        text=[[FIRST_TEXT + 3] * n for n in range(count)],
        gaps=gaps,
    )
    frames = [
        torch.from_numpy(rng.integers(0, 256, (count, c.height, c.width, 3), np.uint8)) for c in plan.spec.cameras
    ]
    return Part(plan, sequences, frames)


def texts() -> Part:
    return Part(None, lay_out_text([[], SAY[0]], [[FIRST_TEXT + 2] * 5, [FIRST_TEXT + 1]]), [])


@pytest.fixture(scope="module")
def model() -> PolicyModel:
    torch.manual_seed(0)
    return PolicyModel([PLAN, OTHER], ModelConfig(**{**vars(CONFIG), "layers": 2}), tiny_vocabulary().size)


def learn(
    model: PolicyModel, batch: Batch, objective: Objective | None = None
) -> tuple[Losses, dict[str, torch.Tensor]]:
    model.zero_grad()
    losses = compute_losses(batch, model(batch), objective or Objective(z=0.01))
    torch.autograd.backward(losses.total)
    return losses, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of two gradients as a share of the largest of them."""
    scale = max(float(g.abs().max()) for g in one.values())
    assert one.keys() == other.keys()
    return max(float((one[n] - other[n]).abs().max()) for n in one) / scale


def test_packed_and_padded_have_the_same_loss_and_gradients(model: PolicyModel) -> None:
    parts = [part(PLAN, 3), part(OTHER, 2, seed=1), texts()]
    padded, packed = pack(parts, 0), pack(parts, 100)
    assert packed.packing is not None and packed.packing.rows < len(padded)
    (one, gradient), (other, its) = learn(model, padded), learn(model, packed)
    for name, value in one.terms.items():
        torch.testing.assert_close(other.terms[name], value, rtol=1e-5, atol=1e-6)
    assert farthest(gradient, its) < 1e-5


def test_an_example_is_answered_alike_whoever_shares_its_row(model: PolicyModel) -> None:
    one = part(PLAN, 2)
    with torch.inference_mode():
        (alone,) = model(pack([one], 0))
        crowded = model(pack([one, part(OTHER, 3, seed=4), texts()], 200))[0]
    for name in ("pose", "locate"):
        torch.testing.assert_close(getattr(crowded, name), getattr(alone, name), rtol=1e-4, atol=1e-4)


def test_parts_of_a_batch_add_up_to_the_whole(model: PolicyModel) -> None:
    parts = [part(PLAN, 3), part(OTHER, 2, seed=1), texts()]
    counts = count(Batch(tuple(parts)))
    whole, gradient = learn(model, pack(parts, 100))
    model.zero_grad()
    pieces = [Batch((one,)) for one in parts]
    sums = [compute_losses(piece, model(piece), Objective(z=0.01), counts).total for piece in pieces]
    torch.autograd.backward(torch.stack(sums).sum())
    torch.testing.assert_close(torch.stack(sums).sum(), whole.total, rtol=1e-5, atol=1e-6)
    assert farthest(gradient, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}) < 1e-5


def test_a_camera_that_is_not_there_is_not_seen_and_takes_no_room(model: PolicyModel) -> None:
    gaps = Gaps(cameras=np.array([[True, False]] * 2), state=np.array([[True, True, False, True]] * 2))
    lacking, whole = part(PLAN, 2, gaps=gaps), part(PLAN, 2)
    assert (whole.sequences.visible.sum(1) - lacking.sequences.visible.sum(1)).tolist() == [PLAN.latents + 2] * 2
    changed = replace(lacking, frames=[lacking.frames[0], 255 - lacking.frames[1]])
    with torch.inference_mode():
        (one,), (other,), (full,) = (model(pack([p], 80)) for p in (lacking, changed, whole))
    assert torch.equal(one.pose, other.pose) and not torch.allclose(one.pose, full.pose)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=80))
def test_every_example_has_room_of_its_own(lengths: list[int]) -> None:
    packing = best_fit(lengths, 60)
    taken = np.zeros((packing.rows, packing.width), int)
    for row, start, length in zip(packing.row, packing.start, lengths, strict=True):
        taken[row, start : start + length] += 1
    assert taken.max() == 1 and taken.sum() == sum(lengths) and packing.width <= 60
    half_empty = (taken.sum(1) <= 30).sum()
    assert half_empty <= 1  # two such would have shared a row


def test_an_example_longer_than_a_row_is_refused_and_a_batch_makes_rows_as_wide_as_needed() -> None:
    with pytest.raises(ValueError, match="an example of 70 tokens does not fit a row of 60"):
        best_fit([10, 70], 60)
    one = part(PLAN, 2)
    assert pack([one], 5).room >= one.sequences.visible.sum(1).max()


def test_rows_come_back_as_the_parts_that_they_were_made_of() -> None:
    parts = [part(PLAN, 2), texts()]
    packing = pack(parts, 90).packing
    arrangement = arrange([p.sequences for p in parts], packing, torch.device("cpu"))
    given_ = [torch.randn(*p.sequences.tokens.shape, 4) for p in parts]
    for before, after, one in zip(given_, arrangement.scatter(arrangement.gather(given_)), parts, strict=True):
        visible = torch.from_numpy(one.sequences.visible)
        assert torch.equal(after[visible], before[visible]) and (after[~visible] == 0).all()
    assert int((arrangement.segment != NOBODY).sum()) == sum(int(p.sequences.visible.sum()) for p in parts)


def test_a_packed_batch_tells_tokens_from_room() -> None:
    parts = [part(PLAN, 3), texts()]
    padded, packed = pack(parts, 0), pack(parts, 120)
    assert padded.tokens == packed.tokens and packed.room < padded.room
    assert packed.tokens / packed.room > padded.tokens / padded.room

"""What a token of the model may see, and that the cache, padding and the batch change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embodied.safety import SafeRobot
from envs import so101
from policies.batch import Batch, Part
from policies.layout import Label, Plan, Sequences, lay_out
from policies.model import Answers, ModelConfig, PolicyModel
from policies.vocabulary import EOS, FIRST_TEXT, PAD, TEXT
from tests.tiny_policy import LABELS, PLAN, tiny_checkpoint

RANDOM = np.random.default_rng(0)
FRAMES = [torch.from_numpy(RANDOM.integers(0, 256, (2, c.height, c.width, 3), np.uint8)) for c in PLAN.spec.cameras]
SAY = [[FIRST_TEXT + 5, FIRST_TEXT + 6, FIRST_TEXT + 7], [FIRST_TEXT + 9]]
STATE_NOW = np.array([[0.1, 0.2, 0.03, 1.0], [-0.3, 0.4, 0.05, 0.5]])
TELL = [[FIRST_TEXT + 20, FIRST_TEXT + 21, FIRST_TEXT + 22], [FIRST_TEXT + 30]]
CLOSE = 1e-4  # of logits of some units, where shapes and so the order of additions differ


@pytest.fixture(scope="module")
def model() -> PolicyModel:
    return tiny_checkpoint().model


def sequences(say: list[list[int]] = SAY, text: list[list[int]] | None = None) -> Sequences:
    return lay_out(PLAN, instruction=say, state=STATE_NOW[: len(say)], text=text)


@torch.inference_mode()
def ask(
    model: PolicyModel, given: Sequences, frames: list[torch.Tensor] = FRAMES, *, use_cache: bool = False
) -> Answers:
    frames = [f[: len(given.tokens)] for f in frames]
    (answers,) = model(Batch((Part(model.plans[0], given, frames),)), use_cache=use_cache)
    return answers


def same(one: torch.Tensor, other: torch.Tensor, tolerance: float = CLOSE) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= tolerance)


def test_answers_have_a_logit_for_each_bin_of_each_number(model: PolicyModel) -> None:
    answers = ask(model, sequences(text=TELL))
    assert answers.pose.shape == (2, PLAN.chunk, 3, 1000)
    assert answers.locate.shape == (2, len(LABELS), 4, 1000)
    assert answers.text.shape[:2] == (2, 5)
    assert answers.pose.dtype == answers.locate.dtype == answers.text.dtype == torch.float32


def test_image_tokens_look_somewhere_with_all_of_their_attention(model: PolicyModel) -> None:
    for looked, grid in zip(ask(model, sequences()).looked, ((8, 8), (3, 4)), strict=True):
        assert looked.shape[1] == PLAN.latents and looked.shape[-2:] == grid
        torch.testing.assert_close(looked.sum((-2, -1)), torch.ones(looked.shape[:-2]))


def test_the_text_answer_cannot_influence_the_prefix(model: PolicyModel) -> None:
    one = ask(model, sequences(text=TELL))
    other = ask(model, sequences(text=[[FIRST_TEXT + 40, FIRST_TEXT + 41, FIRST_TEXT + 42], [FIRST_TEXT + 43]]))
    assert same(one.pose, other.pose, 1e-6) and same(one.locate, other.locate, 1e-6)
    assert not same(one.text, other.text)
    acting = ask(model, sequences())
    assert same(one.pose, acting.pose) and same(one.locate, acting.locate)


def test_a_text_token_sees_none_after_it(model: PolicyModel) -> None:
    one = ask(model, sequences(text=[TELL[0]] * 2))
    other = ask(model, sequences(text=[[*TELL[0][:2], FIRST_TEXT + 50]] * 2))
    assert same(one.text[:, :3], other.text[:, :3], 1e-6)
    assert not same(one.text[:, 3:], other.text[:, 3:])


def test_writing_with_the_cache_is_a_full_pass(model: PolicyModel) -> None:
    full = ask(model, sequences(SAY[:1], TELL[:1]))
    answers = ask(model, sequences(SAY[:1]), use_cache=True)
    with torch.inference_mode():
        for i, token in enumerate([TEXT, *TELL[0], EOS]):
            logits = model.next_text([token], answers, PLAN.prefix + i)
            assert same(logits, full.text[:, i])


def test_padding_is_not_seen(model: PolicyModel) -> None:
    before = ask(model, sequences(text=TELL))
    kept = model.embedding.weight[PAD].clone()
    with torch.no_grad():
        model.embedding.weight[PAD] = 7.0
        after = ask(model, sequences(text=TELL))
        model.embedding.weight[PAD] = kept
    assert same(before.pose, after.pose, 1e-6) and same(before.locate, after.locate, 1e-6)
    assert same(before.text[..., FIRST_TEXT:][0], after.text[..., FIRST_TEXT:][0], 1e-6)
    assert same(before.text[..., FIRST_TEXT:][1, :3], after.text[..., FIRST_TEXT:][1, :3], 1e-6)


def test_a_rows_answers_do_not_depend_on_the_rest_of_its_batch(model: PolicyModel) -> None:
    both, alone = ask(model, sequences(text=TELL)), ask(model, sequences(SAY[:1], TELL[:1]))
    assert same(both.pose[:1], alone.pose) and same(both.text[:1], alone.text)


def test_answers_depend_on_the_instruction_the_state_and_each_camera(model: PolicyModel) -> None:
    pose = ask(model, sequences()).pose
    assert not same(ask(model, sequences([SAY[0], SAY[0]])).pose[1], pose[1])
    moved = lay_out(PLAN, instruction=SAY, state=STATE_NOW[::-1])
    assert not same(ask(model, moved).pose, pose)
    for i in range(len(FRAMES)):
        changed = [255 - frame if i == j else frame for j, frame in enumerate(FRAMES)]
        assert not same(ask(model, sequences(), changed).pose, pose)


def test_a_robot_without_labels_has_answers_all_the_same() -> None:
    plan = Plan(PLAN.spec, (), PLAN.chunk, PLAN.text_length, PLAN.latents)
    answers = ask(tiny_checkpoint(plan).model, lay_out(plan, instruction=SAY, state=STATE_NOW))
    assert answers.pose.shape == (2, PLAN.chunk, 3, 1000) and answers.locate.numel() == 0


def test_the_default_model_for_the_so101_has_at_most_ten_million_parameters() -> None:
    robot = so101.make(render=False)
    labels = tuple(Label(name, LABELS[0].fields[: len(value)]) for name, value in labels_of_a_reset(robot).items())
    plan = Plan(robot.spec, labels, chunk=12, text_length=24, latents=6)
    robot.close()
    model = PolicyModel([plan], ModelConfig(), FIRST_TEXT + 768)
    assert len(labels) == 4 and sum(p.numel() for p in model.parameters()) <= 10_000_000


def labels_of_a_reset(robot: SafeRobot[so101.SO101]) -> dict[str, np.ndarray]:
    robot.reset(0, "pick_place")
    return robot.body.labels()

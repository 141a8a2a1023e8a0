"""One function lays sequences out; these tests say which token stands where and which slots are learnt from."""

from __future__ import annotations

import numpy as np

from policies.layout import UNSUPERVISED, Sequences, lay_out
from policies.vocabulary import BOS, EOS, FIRST_TEXT, FIRST_VALUE, FRAME, IMAGE, LOCATE, PAD, POSE, QUERY, STATE, TEXT
from tests.tiny_policy import PLAN

SAY = [[FIRST_TEXT + 3, FIRST_TEXT + 1], [FIRST_TEXT + i for i in range(5)]]
STATE_NOW = np.array([[0.0, 0.0, 0.0401, 1.0], [-1.5, 1.19, 0.08, 0.0]], np.float32)
CHUNK = np.random.default_rng(0).uniform([-1.5, -0.3, 0.0], [1.5, 1.2, 0.08], (2, PLAN.chunk, 3))
BOX, TARGET = np.array([[0.1, 0.2, 0.3, 0.4]] * 2), np.array([[0.0, 0.1, -0.5]] * 2)
TOLD = [[FIRST_TEXT + 7, FIRST_TEXT + 8], []]


def act() -> Sequences:
    return lay_out(PLAN, instruction=SAY, state=STATE_NOW)


def learn(**changes: object) -> Sequences:
    given: dict[str, object] = {
        "instruction": SAY,
        "state": STATE_NOW,
        "labels": {"goal_box": BOX, "target": TARGET},
        "chunk": CHUNK,
        "supervised": np.ones((2, PLAN.chunk), bool),
        "text": TOLD,
    }
    return lay_out(PLAN, **{**given, **changes})  # type: ignore[arg-type]


def test_the_sequence_is_as_the_module_says() -> None:
    state = [FIRST_VALUE + b for b in (500, 200, 501, 500)]
    assert act().tokens[0].tolist() == [
        *(BOS, FIRST_TEXT + 3, FIRST_TEXT + 1, *[PAD] * 6),
        *(IMAGE, FRAME, FRAME, FRAME, IMAGE, FRAME, FRAME, FRAME),
        *(STATE, *state, LOCATE, QUERY, QUERY, POSE, *[QUERY] * 5),
    ]


def test_the_slots_are_where_the_plan_says() -> None:
    tokens = act().tokens[1]
    assert tokens[PLAN.text].tolist() == [*SAY[1], PAD, PAD, PAD]
    for slots in PLAN.images:
        assert tokens[slots].tolist() == [FRAME] * 3 and tokens[slots.start - 1] == IMAGE
    assert tokens[PLAN.state].tolist() == [FIRST_VALUE + b for b in (0, 993, 999, 0)]
    assert tokens[PLAN.locate].tolist() == [QUERY] * 2 and tokens[PLAN.pose].tolist() == [QUERY] * 5
    assert len(tokens) == PLAN.prefix


def test_training_and_acting_agree_on_the_prefix_token_for_token() -> None:
    np.testing.assert_array_equal(learn().tokens[:, : PLAN.prefix], act().tokens)
    np.testing.assert_array_equal(learn().visible[:, : PLAN.prefix], act().visible)


def test_the_text_answer_comes_after_the_prefix_each_token_asking_for_the_next() -> None:
    sequences = learn()
    said, silent = sequences.tokens[:, PLAN.prefix :].tolist()
    assert said == [TEXT, *TOLD[0], EOS]
    assert sequences.text_targets[0].tolist() == [*TOLD[0], EOS, UNSUPERVISED]
    assert silent == [PAD] * 4
    assert sequences.text_targets[1].tolist() == [UNSUPERVISED] * 4


def test_every_label_and_every_step_is_supervised_by_its_bins() -> None:
    sequences = learn()
    assert sequences.locate_targets[0].tolist() == [[100, 200, 300, 400], [500, 600, 0, UNSUPERVISED]]
    expected = np.floor((CHUNK - [-1.5, -0.3, 0.0]) / [3.0, 1.5, 0.08] * 1000)
    np.testing.assert_array_equal(sequences.pose_targets, expected)


def test_steps_after_a_disturbance_are_not_supervised() -> None:
    supervised = np.array([[True] * 5, [True, True, False, False, False]])
    targets = learn(supervised=supervised).pose_targets
    np.testing.assert_array_equal(targets[1, 2:], UNSUPERVISED)
    np.testing.assert_array_equal(targets[1, :2], learn().pose_targets[1, :2])
    np.testing.assert_array_equal(targets[0], learn().pose_targets[0])


def test_a_label_that_is_not_known_is_not_supervised_number_by_number() -> None:
    box = BOX.copy()
    box[0] = np.nan
    targets = learn(labels={"goal_box": box}).locate_targets
    assert targets[:, 0].tolist() == [[UNSUPERVISED] * 4, [100, 200, 300, 400]]
    assert (targets[:, 1] == UNSUPERVISED).all()


def test_acting_asks_for_nothing() -> None:
    sequences = act()
    for targets in (sequences.locate_targets, sequences.pose_targets, sequences.text_targets):
        assert (targets == UNSUPERVISED).all()


def test_padding_is_invisible_and_all_else_is_seen() -> None:
    for sequences in (act(), learn()):
        np.testing.assert_array_equal(sequences.visible, sequences.tokens != PAD)
    assert (~act().visible).sum(1).tolist() == [6, 3]


def test_another_instruction_changes_text_slots_only() -> None:
    swapped = lay_out(PLAN, instruction=SAY[::-1], state=STATE_NOW)
    changed = np.flatnonzero((swapped.tokens != act().tokens).any(0))
    assert changed.tolist() == [1, 3, 4, 5]  # their second tokens are alike
    assert PLAN.text == slice(1, 9)


def test_what_is_to_be_learnt_is_never_an_input() -> None:
    other = learn(labels={"goal_box": 1 - BOX, "target": -TARGET}, chunk=CHUNK[::-1])
    np.testing.assert_array_equal(other.tokens, learn().tokens)
    assert (other.pose_targets != learn().pose_targets).any()


def test_a_state_out_of_range_is_reported_field_by_field() -> None:
    state = STATE_NOW.copy()
    state[0, 1] = 1.3
    outside = lay_out(PLAN, instruction=SAY, state=state).outside
    assert outside.tolist() == [[False, True, False, False], [False] * 4]

"""Decoding cannot break the grammar; what breaks it is no action."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied.types import PoseAction, TextAction
from policies.grammar import SkillTree, parse, write_pose
from policies.values import BINS
from policies.vocabulary import EOS, FIRST_TEXT, FIRST_VALUE, POSE, TEXT
from tests.tiny_policy import PLAN, SKILLS, SPEC, tiny_vocabulary

VOCABULARY = tiny_vocabulary()
NUMBERS = PLAN.chunk * len(SPEC.action)
RANDOM = np.random.default_rng(0)
GOOD = write_pose(RANDOM.integers(0, BINS, (PLAN.chunk, len(SPEC.action))))


def read(answer: list[int]) -> list[PoseAction] | list[TextAction] | None:
    return parse(answer, SPEC, VOCABULARY, chunk=PLAN.chunk)


def spell(skill: str) -> list[int]:
    return [TEXT, *VOCABULARY.encode_text(skill), EOS]


def test_a_pose_answer_is_a_chunk_of_poses_at_the_bins_centres() -> None:
    bins = np.tile([0, 500, 999], (PLAN.chunk, 1))
    actions = read(write_pose(bins))
    assert actions is not None and len(actions) == PLAN.chunk
    for action in actions:
        assert isinstance(action, PoseAction)
        np.testing.assert_allclose(action.values, [-1.4985, 0.45075, 0.07996], atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(0, BINS - 1), min_size=NUMBERS, max_size=NUMBERS))
def test_any_bins_at_all_are_poses_within_their_ranges(bins: list[int]) -> None:
    actions = read(write_pose(np.reshape(bins, (PLAN.chunk, -1))))
    assert actions is not None
    for action in actions:
        assert isinstance(action, PoseAction)
        for value, field in zip(action.values, SPEC.action, strict=True):
            assert field.low < value < field.high


def test_a_skill_is_read_as_the_robot_writes_it() -> None:
    for skill in SKILLS:
        assert read(spell(skill)) == [TextAction(skill)]


def test_a_sentence_that_is_no_skill_is_no_action() -> None:
    for text in ("move", "move left left", "fly", "move up"):
        assert read(spell(text)) is None


def test_every_truncation_is_no_action() -> None:
    for answer in (GOOD, spell("move left")):
        for length in range(len(answer)):
            assert read(answer[:length]) is None
            assert length == 0 or read([*answer[:length], EOS]) is None or answer[length] == EOS


def test_a_chunk_of_another_length_is_no_action() -> None:
    for steps in (0, 1, PLAN.chunk - 1, PLAN.chunk + 1):
        assert read(write_pose(np.zeros((steps, len(SPEC.action)), np.int64))) is None


def test_an_order_or_a_mode_that_is_wrong_is_no_action() -> None:
    assert read(GOOD[::-1]) is None
    assert read([TEXT, *GOOD[1:]]) is None
    assert read([POSE, *spell("wait")[1:]]) is None
    assert read([*GOOD, EOS]) is None


@settings(deadline=None)
@given(st.integers(1, len(GOOD) - 2), st.integers(-10, VOCABULARY.size + 10))
def test_one_token_of_another_kind_spoils_the_answer(place: int, token: int) -> None:
    answer = [*GOOD]
    answer[place] = token
    assert (read(answer) is not None) == (FIRST_VALUE <= token < FIRST_TEXT)


@settings(deadline=None)
@given(st.lists(st.integers(0, VOCABULARY.size - 1), max_size=NUMBERS + 4))
def test_tokens_at_random_are_no_action(tokens: list[int]) -> None:
    assert read([TEXT, *tokens]) is None or [TEXT, *tokens] in map(spell, SKILLS)
    assert read(tokens) is None or tokens in map(spell, SKILLS)


def test_walking_the_tree_at_random_spells_skills_only() -> None:
    tree, seen = SkillTree(SKILLS, VOCABULARY), set()
    for _ in range(200):
        written: list[int] = []
        while allowed := tree.allowed(written):
            written.append(int(RANDOM.choice(allowed)))
        actions = read([TEXT, *written])
        assert actions is not None and isinstance(actions[0], TextAction)
        seen.add(actions[0].text)
    assert seen == set(SKILLS)


def test_a_skill_that_begins_another_can_be_told_from_it() -> None:
    skills = ("move", "move left")
    tree = SkillTree(skills, VOCABULARY)
    assert (
        EOS in tree.allowed(VOCABULARY.encode_text("move")) and len(tree.allowed(VOCABULARY.encode_text("move"))) == 2
    )
    assert parse(spell("move"), replace(SPEC, skills=skills), VOCABULARY, chunk=1) == [TextAction("move")]


def test_nothing_follows_what_cannot_be_spelled() -> None:
    assert SkillTree(SKILLS, VOCABULARY).allowed([FIRST_TEXT]) == []
    assert SkillTree((), VOCABULARY).allowed([]) == []

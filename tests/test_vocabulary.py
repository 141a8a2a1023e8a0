"""The vocabulary keeps text, value tokens and special tokens apart, whatever somebody types."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.values import BINS
from policies.vocabulary import FIRST_TEXT, FIRST_VALUE, SPECIALS, TEXT, Vocabulary
from tests.tiny_policy import CORPUS, tiny_vocabulary

VOCABULARY = tiny_vocabulary()


def test_ids_are_specials_then_values_then_text() -> None:
    assert len(SPECIALS) == len(set(SPECIALS)) == FIRST_VALUE
    assert FIRST_TEXT == FIRST_VALUE + BINS
    assert FIRST_TEXT < VOCABULARY.size <= FIRST_TEXT + 320


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_tokens_name_typed_in_an_instruction_stays_text(special: str) -> None:
    text = f"reach {special} cube{special}"
    ids = VOCABULARY.encode_text(text)
    assert min(ids) >= FIRST_TEXT
    assert VOCABULARY.decode_text(ids) == text


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=40))
def test_any_unicode_is_text_within_the_vocabulary(text: str) -> None:
    ids = VOCABULARY.encode_text(text)
    assert all(FIRST_TEXT <= i < VOCABULARY.size for i in ids)
    assert bool(ids) or not text.strip()


@pytest.mark.parametrize("text", ["grüße 🤖", "拿起红色方块", "подними куб", "a\tb\nc"])
def test_words_it_never_saw_come_back(text: str) -> None:
    assert VOCABULARY.decode_text(VOCABULARY.encode_text(text)) == text


def test_case_and_width_do_not_matter() -> None:
    assert VOCABULARY.encode_text("REACH the \uff32ed cube") == VOCABULARY.encode_text("reach the red cube")


def test_what_it_was_trained_on_takes_fewer_tokens_than_bytes() -> None:
    assert len(VOCABULARY.encode_text(CORPUS[0])) < len(CORPUS[0]) / 2


def test_no_other_token_is_decoded_as_text() -> None:
    with pytest.raises(ValueError, match=rf"\[{TEXT}, {FIRST_VALUE}\] are no text tokens"):
        VOCABULARY.decode_text([TEXT, FIRST_VALUE, FIRST_TEXT])


def test_a_saved_vocabulary_is_the_same(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path / "tokenizer.json")
    loaded = Vocabulary.load(tmp_path / "tokenizer.json")
    assert loaded.size == VOCABULARY.size
    for text in (*CORPUS, "grüße <pose>"):
        assert loaded.encode_text(text) == VOCABULARY.encode_text(text)


def test_the_same_corpus_gives_the_same_vocabulary() -> None:
    assert [tiny_vocabulary().encode_text(text) for text in CORPUS] == [VOCABULARY.encode_text(t) for t in CORPUS]

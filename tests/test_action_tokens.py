"""Bins and FAST say a chunk in ids and give it back within what rounding allows, or refuse; they never invent one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.fft import dct, idct

from embodied.errors import InvalidActionError
from embodied.types import Field
from policies.action_tokens.bins import BinTokenizer
from policies.action_tokens.fast import FastTokenizer, UntrainableError
from policies.action_tokens.measures import measure
from policies.action_tokens.tokenizer import ActionTokenizer, TokenizerFolderError

STEPS = 12
FIELDS = (Field("pan", "rad", -2.0, 2.0), Field("lift", "m", 0.0, 0.5), Field("gripper", "", -1.0, 1.0))
LOW, HIGH = np.array([f.low for f in FIELDS]), np.array([f.high for f in FIELDS])


def smooth(count: int, seed: int, fields: int = len(FIELDS)) -> NDArray[np.float64]:
    """Make chunks of slow sines in the middle of each field's range, the gripper shut or open."""
    random = np.random.default_rng(seed)
    phase, rate, size = random.uniform(0, 6, (3, count, 1, fields)) * np.array([1, 0.05, 0.1])[:, None, None, None]
    chunks = np.sin(phase + rate * np.arange(STEPS)[None, :, None]) * size
    chunks[..., -1] = np.where(random.random((count, 1)) < 0.5, -0.5, 0.5)
    return LOW[:fields] + (chunks + 1) / 2 * (HIGH - LOW)[:fields]


TRAINING = smooth(400, 0)
FAST = FastTokenizer.train(TRAINING, FIELDS, vocabulary=512)
BINNED = BinTokenizer(FIELDS, STEPS)
BOTH = pytest.mark.parametrize("tokenizer", [BINNED, FAST], ids=["bins", "fast"])
INSIDE = arrays(np.float64, (STEPS, len(FIELDS)), elements=st.floats(0.0, 1.0))
ANY = arrays(np.float64, (STEPS, len(FIELDS)), elements=st.floats(-1e6, 1e6))


def within(tokenizer: ActionTokenizer, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place shares (..., fields) of 0 to 1 in what a tokenizer reaches."""
    low, high = (LOW, HIGH) if tokenizer is BINNED else (FAST.normaliser.least, FAST.normaliser.most)
    return np.clip(low + shares * (high - low), low, high)


def back(tokenizer: ActionTokenizer, chunk: NDArray[np.float64]) -> NDArray[np.float64]:
    (ids,) = tokenizer.encode(chunk[None])
    assert all(0 <= i < tokenizer.vocabulary for i in ids)
    found = tokenizer.decode(ids)
    assert found is not None and found.shape == chunk.shape
    return found


@settings(deadline=None, max_examples=60)
@given(INSIDE)
def test_a_bin_errs_by_half_its_width_at_most(shares: NDArray[np.float64]) -> None:
    chunk = within(BINNED, shares)
    assert (np.abs(back(BINNED, chunk) - chunk) <= (HIGH - LOW) / 2000 + 1e-12).all()
    assert not BINNED.clipped(chunk[None]).any()


@settings(deadline=None, max_examples=60)
@given(INSIDE)
def test_fast_errs_no_more_than_rounding_its_coefficients_allows(shares: NDArray[np.float64]) -> None:
    chunk = within(FAST, shares)
    off = FAST.normaliser.forward(back(FAST, chunk)) - FAST.normaliser.forward(chunk)
    # Orthonormal: what each of the n coefficients of a field loses, 0.5 / scale at most, is what its n values lose.
    assert (np.sqrt((off**2).mean(0)) <= 0.5 / FAST.scale + 1e-9).all()
    assert np.abs(off).max() <= FAST.bound + 1e-9 <= 0.5 / FAST.scale * np.sqrt(2 * STEPS)
    assert not FAST.clipped(chunk[None]).any()


@settings(deadline=None, max_examples=60)
@given(ANY)
def test_fast_encodes_what_it_never_saw_as_the_farthest_it_did_and_says_so(chunk: NDArray[np.float64]) -> None:
    least, most = FAST.normaliser.least, FAST.normaliser.most
    nearest = np.clip(chunk, least, most)
    assert np.array_equal(FAST.clipped(chunk[None])[0], nearest != chunk)
    np.testing.assert_array_equal(back(FAST, chunk), back(FAST, nearest))


def test_every_corner_of_what_fast_reaches_has_ids() -> None:
    corners = np.sign(dct(np.eye(STEPS), axis=0, norm="ortho"))  # the chunks of the largest coefficients
    for corner in (*corners, *-corners):
        shares = np.repeat((corner[:, None] + 1) / 2, len(FIELDS), axis=1)
        back(FAST, within(FAST, shares))


@settings(deadline=None, max_examples=60)
@given(arrays(np.int64, (STEPS, len(FIELDS)), elements=st.integers(-2, 2)))
def test_a_chunk_on_fasts_grid_comes_back_as_it_was(rounded: NDArray[np.int64]) -> None:
    values = idct(rounded / FAST.scale, axis=0, norm="ortho")
    chunk = FAST.normaliser.back(values)
    if not FAST.clipped(chunk[None]).any():
        np.testing.assert_allclose(back(FAST, chunk), chunk, atol=1e-9)


def test_a_chunk_on_the_bins_grid_comes_back_as_it_was() -> None:
    shares = (np.random.default_rng(0).integers(1000, size=(STEPS, len(FIELDS))) + 0.5) / 1000
    chunk = LOW + shares * (HIGH - LOW)
    np.testing.assert_allclose(back(BINNED, chunk), chunk, atol=1e-12)


def test_a_chunk_that_stays_where_it_is_takes_few_of_fasts_tokens_and_a_smooth_one_fewer_than_bins() -> None:
    still = np.repeat(within(FAST, np.random.default_rng(1).random((50, 1, len(FIELDS)))), STEPS, axis=1)
    # One coefficient a field is not 0, and the rest is a run of zeros.
    assert max(map(len, FAST.encode(still))) <= len(FIELDS) + 4
    assert np.mean([len(ids) for ids in FAST.encode(smooth(100, 7))]) < STEPS * len(FIELDS) / 2
    assert {len(ids) for ids in BINNED.encode(still)} == {STEPS * len(FIELDS)}


def test_low_frequencies_come_first_and_every_field_of_one_before_the_next() -> None:
    letters = FastTokenizer.train(TRAINING, FIELDS, vocabulary=FAST.alphabet)  # of which no pair fits
    chunk = TRAINING[:1]
    wanted = np.rint(dct(letters.normaliser.forward(chunk[0]), axis=0, norm="ortho") * letters.scale).ravel()
    zero = letters.encode(letters.normaliser.back(np.zeros((1, STEPS, len(FIELDS)))))[0]
    assert letters.vocabulary == letters.alphabet and len(set(zero)) == 1
    ids = np.array(letters.encode(chunk)[0])
    assert (
        len(set(zip(ids.tolist(), wanted.tolist(), strict=True))) == len(set(wanted.tolist())) == len(set(ids.tolist()))
    )


@BOTH
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_ids_at_all_are_a_chunk_within_reach_or_none(tokenizer: ActionTokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(-2, tokenizer.vocabulary + 1), max_size=STEPS * len(FIELDS) + 1))
    chunk = tokenizer.decode(ids)
    if chunk is not None:
        low, high = within(tokenizer, np.zeros(len(FIELDS))), within(tokenizer, np.ones(len(FIELDS)))
        slack = FAST.bound * (FAST.normaliser.high - FAST.normaliser.low) / 2 + 1e-9
        assert chunk.shape == (STEPS, len(FIELDS))
        assert (chunk >= low - slack).all() and (chunk <= high + slack).all()


@BOTH
def test_a_sequence_that_was_cut_or_goes_on_too_long_does_not_decode(tokenizer: ActionTokenizer) -> None:
    (ids,) = tokenizer.encode(TRAINING[:1])
    for broken in ([], ids[:-1], [*ids, ids[-1]], [*ids[:-1], tokenizer.vocabulary], [-1, *ids[1:]]):
        assert tokenizer.decode(broken) is None


def test_a_sequence_of_far_too_large_coefficients_is_no_chunk() -> None:
    letters = FastTokenizer.train(TRAINING, FIELDS, vocabulary=FAST.alphabet)
    everything = [max(range(letters.vocabulary))] * (STEPS * len(FIELDS))
    assert letters.decode(everything) is None


@BOTH
@pytest.mark.parametrize("shape", [(2, STEPS + 1, 3), (2, STEPS, 2), (STEPS, 3)])
def test_chunks_of_another_shape_are_refused(tokenizer: ActionTokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidActionError, match=r"chunks are \(n, 12, 3\)"):
        tokenizer.encode(np.zeros(shape))


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_by_name(tokenizer: ActionTokenizer, bad: float) -> None:
    chunks = TRAINING[:3].copy()
    chunks[2, 5, 1] = bad
    with pytest.raises(InvalidActionError, match=f"'lift' is {bad} in chunk 2 at 5"):
        tokenizer.encode(chunks)
    with pytest.raises(InvalidActionError, match="'lift'"):
        FastTokenizer.train(chunks, FIELDS)


@BOTH
def test_what_was_saved_gives_the_same_ids_and_the_same_chunks(tokenizer: ActionTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "kept")
    loaded = type(tokenizer).load(tmp_path / "kept")  # type: ignore[attr-defined]
    chunks = smooth(50, 3)
    sequences = tokenizer.encode(chunks)
    assert loaded.encode(chunks) == sequences and loaded.vocabulary == tokenizer.vocabulary
    assert loaded.fields == tokenizer.fields and loaded.steps == tokenizer.steps
    for ids in sequences:
        np.testing.assert_array_equal(loaded.decode(ids), tokenizer.decode(ids))


def test_training_twice_gives_the_same_ids() -> None:
    chunks = smooth(50, 4)
    assert FastTokenizer.train(TRAINING, FIELDS, vocabulary=512).encode(chunks) == FAST.encode(chunks)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", b"\xff\x00", "tokenizer.json: is no tokenizer"),
        ("tokenizer.json", None, "tokenizer.json: is no tokenizer"),
        ("fast.json", b"{", "fast.json: is not JSON"),
        ("fast.json", b"[]", r"fast.json: has no \['fields'"),
        ("fast.json", b'{"steps": 3}', r"fast.json: has no \['fields', 'scale', 'normaliser'\]"),
        ("fast.json", None, "fast.json: cannot be read: No such file"),
    ],
)
def test_a_broken_folder_is_named_with_the_file(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    FAST.save(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerFolderError, match=words):
        FastTokenizer.load(tmp_path)


def test_the_byte_pairs_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    FAST.save(tmp_path)
    FastTokenizer.train(TRAINING, FIELDS, scale=5.0).save(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").replace(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerFolderError, match=r"is not the one that fast.json belongs to"):
        FastTokenizer.load(tmp_path)


def test_a_folder_of_other_bins_is_refused(tmp_path: Path) -> None:
    BINNED.save(tmp_path)
    content = json.loads((tmp_path / "bins.json").read_text())
    (tmp_path / "bins.json").write_text(json.dumps({**content, "bins": 256}))
    with pytest.raises(TokenizerFolderError, match="has 256 bins; this reads 1000"):
        BinTokenizer.load(tmp_path)


def test_a_vocabulary_that_the_coefficients_alone_fill_is_refused_in_words() -> None:
    with pytest.raises(
        UntrainableError, match="more than the 64 of the vocabulary: raise --vocabulary or lower --scale"
    ):
        FastTokenizer.train(TRAINING, FIELDS, vocabulary=64)


def test_a_field_that_hardly_ever_moves_needs_no_large_vocabulary_and_keeps_its_rare_value() -> None:
    chunks = TRAINING.copy()
    chunks[..., 0] = 0.01 * np.random.default_rng(0).standard_normal(chunks.shape[:2])
    chunks[3, 4, 0] = -1.9  # one value in 4800
    fast = FastTokenizer.train(chunks, FIELDS)
    assert fast.alphabet < 512  # some 3000 with the quantiles as they are
    assert abs(back(fast, chunks[3])[4, 0] + 1.9) <= fast.bound * np.ptp(chunks[..., 0]) / 8 + 1e-9


def test_a_field_that_never_moves_stays_where_it_was() -> None:
    chunks = TRAINING.copy()
    chunks[..., 1] = 0.2
    fast = FastTokenizer.train(chunks, FIELDS)
    np.testing.assert_allclose(back(fast, chunks[0])[:, 1], 0.2)
    assert fast.clipped(TRAINING[:1])[..., 1].all()


def test_the_measures_are_of_what_was_encoded() -> None:
    chunks = smooth(64, 9)
    chunks[0, 0, 0] = 5.0  # beyond the range
    binned, fast = measure(BINNED, chunks), measure(FAST, chunks)
    assert (binned.tokens_mean, binned.tokens_max, binned.undecoded) == (36, 36, 0)
    assert binned.failures["changed"].failed == 0 and binned.failures["cut"].failed == 1
    assert binned.failures["cut"].error_median is None and binned.failures["random"].error_max > 0.5
    assert binned.error[0].clipped == 1 and binned.error[0].max == pytest.approx(3.0, abs=0.01)
    assert binned.error[1].rmse_share == pytest.approx(1 / 1000 / np.sqrt(12), rel=0.1)
    assert fast.undecoded == 0 and fast.error[0].clipped == 1
    assert fast.failures["random"].failed > 0.9 and 0.5 < fast.failures["changed"].failed < 1
    assert fast.tokens_mean == np.mean([len(ids) for ids in FAST.encode(chunks)])

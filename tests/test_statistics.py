"""Statistics come in one pass, and are those of all rows."""

from __future__ import annotations

import numpy as np
import pytest

from embodied.recording import stats
from embodied.recording.stats import QUANTILES, ColumnStatistics, ImageStatistics, of_column


def counted(parts) -> dict:
    found = ColumnStatistics()
    for part in parts:
        found.add(part)
    return found.result()


def test_parts_give_what_the_whole_gives():
    rows = np.random.default_rng(0).normal([1e6, 0, -3], [1, 1e-3, 50], (5000, 3))
    found, whole = counted(np.array_split(rows, 17)), of_column(rows)
    for name in ("mean", "std"):
        np.testing.assert_allclose(found[name], getattr(rows, name)(axis=0), rtol=1e-9)
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-9)
    np.testing.assert_array_equal([found["min"], found["max"]], [rows.min(0), rows.max(0)])
    for name, q in QUANTILES.items():
        np.testing.assert_array_equal(found[name], np.quantile(rows, q, axis=0, method="inverted_cdf"))
    assert found["count"] == [5000]


def test_beyond_what_is_kept_quantiles_are_right_to_a_bin(monkeypatch):
    monkeypatch.setattr(stats, "EXACT_ROWS", 1000)
    rng = np.random.default_rng(0)
    # The range grows a hundredfold after the histogram was begun, upwards and downwards.
    parts = [rng.normal(0, 1, (500, 2)) for _ in range(4)] + [rng.normal([90, -90], 5, (4000, 2)) for _ in range(3)]
    found, rows = counted(parts), np.concatenate(parts)
    for name, q in QUANTILES.items():
        exact = np.quantile(rows, q, axis=0, method="inverted_cdf")
        assert np.abs(found[name] - exact).max() < 3 * np.ptp(rows, axis=0).max() / stats.BINS, name
    np.testing.assert_allclose(found["std"], rows.std(axis=0), rtol=1e-9)


def test_shapes_and_types_are_lerobots():
    assert of_column(np.array([3, 1, 2], np.int64)) == {
        "min": [1], "max": [3], "mean": [2.0], "std": [pytest.approx(np.sqrt(2 / 3))],
        "q01": [1.0], "q10": [1.0], "q50": [2.0], "q90": [3.0], "q99": [3.0], "count": [3],
    }  # fmt: skip
    assert of_column(np.array([True, False]))["max"] == [True]
    assert np.shape(of_column(np.zeros((4, 2, 3)))["q50"]) == (2, 3)


def test_a_value_that_is_not_finite_leaves_no_statistics():
    assert of_column(np.array([[1.0], [np.nan]])) is None
    assert counted([np.zeros((3, 1)), np.full((1, 1), np.inf), np.zeros((3, 1))]) is None


def test_pictures_are_counted_exactly():
    frames = np.random.default_rng(0).integers(20, 200, (4, 16, 16, 3), dtype=np.uint8)
    one, other = ImageStatistics(), ImageStatistics()
    for i, frame in enumerate(frames):
        (one if i % 2 else other).add_frame(frame)
    one.merge(other)
    found, pixels = one.result(), frames.reshape(-1, 3) / 255.0
    assert found["count"] == [4] and np.shape(found["q50"]) == (3, 1, 1)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(np.ravel(found[name]), getattr(pixels, name)(axis=0), rtol=1e-6)
    for name, q in QUANTILES.items():
        exact = np.quantile(pixels, q, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(np.ravel(found[name]), exact, atol=1e-9)

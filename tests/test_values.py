"""A number becomes the value token of its bin and comes back as the bin's centre."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embodied.errors import InvalidObservationError
from embodied.types import Field
from policies.values import BINS, decode_values, encode_values, ranges

LOWS = st.floats(-1e3, 1e3)
WIDTHS = st.floats(1e-2, 1e3)


@settings(deadline=None)
@given(LOWS, WIDTHS, st.floats(0.0, 1.0))
@example(0.0, 8.523942981285813, 1.0)  # the high end, where rounding puts it a hair beyond the last bin
def test_a_round_trip_errs_by_half_a_bin_at_most(low: float, width: float, fraction: float) -> None:
    high = low + width
    value = min(low + fraction * (high - low), high)
    bins, outside = encode_values(value, low, high)
    rounding = np.spacing(max(abs(low), abs(high)))
    assert not outside
    assert abs(float(decode_values(bins, low, high)) - value) <= (high - low) / 2000 + 2 * rounding


def test_a_round_trip_has_no_bias() -> None:
    values = np.random.default_rng(0).uniform(-1.7, 2.9, 100_000)
    errors = decode_values(encode_values(values, -1.7, 2.9)[0], -1.7, 2.9) - values
    assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(len(errors))


@pytest.mark.parametrize("high", [1.0, 250.0, 1000.0, 2000.0])
def test_bins_are_half_open_an_edge_is_in_the_bin_above(high: float) -> None:
    edges = np.arange(BINS) * high / BINS
    bins, outside = encode_values(edges, 0.0, high)
    assert bins.tolist() == list(range(BINS)) and not outside.any()
    below, _ = encode_values(np.nextafter(edges[1:], -1.0) - 1e-12 * high, 0.0, high)
    assert below.tolist() == list(range(BINS - 1))


def test_the_top_of_the_range_is_in_the_last_bin_and_not_outside() -> None:
    bins, outside = encode_values([2.0], 0.0, 2.0)
    assert bins.tolist() == [BINS - 1] and not outside.any()


def test_out_of_range_is_reported_and_takes_the_nearest_end() -> None:
    bins, outside = encode_values([-50.0, 0.5, 1.001], 0.0, 1.0)
    assert bins.tolist() == [0, 500, BINS - 1]
    assert outside.tolist() == [True, False, True]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_value_token(bad: float) -> None:
    with pytest.raises(InvalidObservationError, match="only finite numbers"):
        encode_values([0.0, bad], 0.0, 1.0)


def test_each_field_has_its_own_range() -> None:
    low, high = ranges((Field("a", "rad", -1.0, 1.0), Field("b", "m", 0.0, 10.0)))
    bins, _ = encode_values(np.array([[0.0, 0.0], [0.5, 2.5]]), low, high)
    assert bins.tolist() == [[500, 0], [750, 250]]
    assert decode_values(bins, low, high).dtype == np.float64
    np.testing.assert_allclose(decode_values(bins, low, high), [[0.001, 0.005], [0.501, 2.505]], atol=1e-6)

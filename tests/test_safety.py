"""The limits: what leaves them is finite and in range, and every change is reported."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embodied.errors import InvalidActionError
from embodied.safety import limit_action
from embodied.types import Field, RobotSpec

SPEC = RobotSpec(
    name="two_joints",
    control_hz=10.0,
    cameras=(),
    state=(),
    action=(Field("pan", "rad", -1.1, 1.3), Field("lift", "rad", 0.1, 0.7)),
)
HOLD = np.array([0.5, 0.2], np.float32)


def test_a_command_in_range_passes_unchanged() -> None:
    values = np.array([0.3, 0.6], np.float32)
    applied, interventions = limit_action(SPEC, values, HOLD)
    assert (applied == values).all() and interventions == ()


def test_the_limits_themselves_are_in_range() -> None:
    _, interventions = limit_action(SPEC, np.array([1.3, 0.1], np.float32), HOLD)
    assert interventions == ()


def test_out_of_range_is_clamped_and_reported_by_field() -> None:
    applied, (change,) = limit_action(SPEC, np.array([5.0, 0.3], np.float32), HOLD)
    assert applied.tolist() == np.array([1.3, 0.3], np.float32).tolist()
    assert (change.kind, change.field, change.requested) == ("position", "pan", 5.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_number_holds_the_whole_command(bad: float) -> None:
    applied, (change,) = limit_action(SPEC, np.array([1.0, bad], np.float32), HOLD)
    assert (applied == HOLD).all()
    assert (change.kind, change.field, change.applied) == ("non_finite", "lift", float(HOLD[1]))


def test_a_wrong_length_is_refused_with_the_field_names() -> None:
    with pytest.raises(InvalidActionError, match=r"pan.*lift"):
        limit_action(SPEC, np.zeros(3, np.float32), HOLD)


@given(arrays(np.float32, 2, elements=st.floats(width=32)), arrays(np.float32, 2, elements=st.floats(-9, 9, width=32)))
def test_whatever_is_asked_what_is_applied_is_in_range(values: np.ndarray, hold: np.ndarray) -> None:
    applied, interventions = limit_action(SPEC, values, hold)
    for spec_field, value in zip(SPEC.action, applied, strict=True):
        assert np.float32(spec_field.low) <= value <= np.float32(spec_field.high)
    assert bool(interventions) == (not np.array_equal(applied, values))

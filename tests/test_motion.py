"""Whatever is commanded, the setpoints keep the limits; what is within them is followed as it stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embodied.errors import InvalidActionError, InvalidObservationError
from embodied.motion import Motion, UnfitLimitsError
from embodied.types import Box, Field, Intervention, Limits, RobotSpec

Array = NDArray[np.float64]

FREE = RobotSpec(
    name="two_joints",
    control_hz=10.0,
    cameras=(),
    state=(),
    action=(Field("pan", "rad", -1.1, 1.3), Field("lift", "rad", 0.1, 0.7)),
)
LIMITS = Limits(velocity=(4.0, 1.5), acceleration=(30.0, 12.0), workspace=Box((-0.4, -0.5, 0.2), (0.95, 1.0, 0.6)))
BOUND = replace(FREE, limits=LIMITS)
QUICK = replace(FREE, limits=replace(LIMITS, workspace=None))
TICK_S = 0.02
START = np.array([0.1, 0.3])
LOW, HIGH = (np.array([getattr(f, end) for f in FREE.action]) for end in ("low", "high"))

ODD = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0])
number = ODD | st.floats(-2, 2, width=32)
commands = st.lists(st.tuples(number, number), max_size=30)
starts = st.tuples(st.floats(-1.1, 1.3), st.floats(0.1, 0.7))


def tool(pose: Array) -> Array:
    """Return where the end of an arm of 1 m is, that turns by pan and is lifted by lift."""
    return np.array([np.cos(pose[0]) * np.cos(pose[1]), np.sin(pose[0]) * np.cos(pose[1]), np.sin(pose[1])])


def moving(spec: RobotSpec, start: Array = START, tick_s: float = TICK_S) -> Motion:
    motion = Motion(spec, tick_s, tool if spec.limits.workspace else None)
    motion.begin(start)
    return motion


def period(motion: Motion, values: object) -> Array:
    """Return the setpoints (k, n) of a command's period."""
    motion.command(np.array(values, np.float32))
    return np.array([motion.tick() for _ in range(motion.ticks)])


def outside(tools: Array, box: Box) -> Array:
    """Return how far each tool (k, 3) is outside the box, an axis each."""
    return np.maximum(np.maximum(np.array(box.low) - tools, tools - np.array(box.high)), 0.0)


@settings(max_examples=300, deadline=None)
@given(starts, commands, st.sampled_from([BOUND, QUICK, FREE]), st.sampled_from([0.1, 0.02, 0.01]))
def test_whatever_is_commanded_every_setpoint_keeps_the_limits(start, asked, spec, tick_s) -> None:
    motion = moving(spec, np.array(start), tick_s)
    at = [np.array(start)]
    for values in asked:
        at += list(period(motion, values))
    at += [motion.tick() for _ in range(20)]  # runs dry
    way = np.array(at)
    assert np.isfinite(way).all() and (way >= LOW).all() and (way <= HIGH).all()
    velocity = np.diff(way, axis=0, prepend=way[:1]) / tick_s
    slack = 1e-9
    if spec.limits.velocity:
        assert (np.abs(velocity) <= np.array(spec.limits.velocity) + slack).all()
        change = np.abs(np.diff(velocity, axis=0))
        assert (change <= np.array(spec.limits.acceleration) * tick_s + slack).all()
    if spec.limits.workspace:
        away = outside(np.array([tool(pose) for pose in way]), spec.limits.workspace)
        assert (away <= away[0] + slack).all(), "the tool went out, or further out than it began"


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1.09, 1.29), st.floats(0.11, 0.69)), max_size=10))
def test_without_limits_a_period_is_the_straight_line(asked) -> None:
    motion, start = moving(FREE), START
    for values in np.array(asked, np.float32).reshape(-1, 2).astype(np.float64):
        share = np.arange(1, 6)[:, None] / 5
        np.testing.assert_allclose(way := period(motion, values), start + (values - start) * share, atol=1e-15)
        np.testing.assert_array_equal(way[-1], values)
        start = values
    assert motion.take_interventions() == ()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-0.02, 0.02), st.floats(-0.01, 0.01)), min_size=1, max_size=8))
def test_a_slow_command_is_reached_exactly_when_its_period_ends(moves) -> None:
    motion, aim = moving(BOUND, np.array([0.3, 0.4])), np.array([0.3, 0.4])
    for move in moves:
        aim = np.clip(aim + move, [0.2, 0.35], [0.4, 0.45]).astype(np.float32)
        np.testing.assert_array_equal(period(motion, aim)[-1], aim)
    assert motion.take_interventions() == ()


def test_a_command_that_takes_a_while_to_get_going_catches_up_with_its_line() -> None:
    motion = moving(QUICK)
    way = np.concatenate([period(motion, [START[0] + 0.1 * i, 0.3]) for i in (1, 2)])[:, 0]
    line = START[0] + 0.02 * np.arange(1, 11)
    assert way[0] < line[0] and way[-1] == pytest.approx(line[-1], abs=1e-7)
    assert motion.take_interventions() == ()  # what has only to brake is as good as there


def test_a_steady_motion_is_steady() -> None:
    motion = moving(QUICK, np.array([-1.0, 0.3]))
    way = np.concatenate([period(motion, [-1.0 + 0.2 * i, 0.3]) for i in range(1, 10)])
    velocity = np.diff(way[:, 0]) / TICK_S
    np.testing.assert_allclose(velocity[15:], 2.0, atol=1e-6)


@pytest.mark.parametrize("aim", [0.0, 0.4, 1.3])
def test_a_lone_command_is_not_passed(aim: float) -> None:
    motion = moving(QUICK, np.array([-0.6, 0.3]))
    way = np.concatenate([period(motion, [aim, 0.3]) for _ in range(10)])
    assert way[:, 0].max() <= aim + 1e-7 and way[-1, 0] == pytest.approx(aim, abs=1e-7)
    assert (np.diff(way[:, 0]) >= -1e-12).all()


def test_a_step_across_the_range_is_as_quick_as_the_limits_allow() -> None:
    motion = moving(QUICK, np.array([-1.1, 0.3]))
    way = np.concatenate([period(motion, [1.3, 0.3]) for _ in range(10)])[:, 0]
    seconds = TICK_S * np.argmax(way >= 1.3 - 1e-6)
    assert seconds == pytest.approx(2.4 / 4.0 + 4.0 / 30.0, abs=2 * TICK_S)  # the trapezoid of continuous time


def test_what_falls_short_is_told_once_a_command_by_field_and_cause() -> None:
    motion = moving(QUICK)
    way = period(motion, [START[0] + 0.39, START[1] + 0.2])
    pan, lift = sorted(motion.take_interventions(), key=lambda i: i.kind)
    assert (pan.kind, pan.field, pan.applied) == ("acceleration", "pan", way[-1, 0])
    assert pan.requested == pytest.approx(START[0] + 0.39) and pan.applied < pan.requested
    assert (lift.kind, lift.field) == ("velocity", "lift")
    assert motion.take_interventions() == ()


def test_out_of_range_is_clamped_and_told() -> None:
    motion = moving(FREE)
    (change,) = motion.command(np.array([5.0, 0.3], np.float32))
    assert change == Intervention("position", "pan", 5.0, 1.3)
    assert [motion.tick() for _ in range(5)][-1][0] == 1.3
    assert motion.command(HIGH.astype(np.float32)) == motion.command(LOW.astype(np.float32)) == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 1])
def test_a_number_that_is_not_finite_holds_all_of_the_command(bad: float, index: int) -> None:
    motion = moving(BOUND)
    values = np.array([1.0, 0.5], np.float32)
    values[index] = bad
    (change,) = motion.command(values)
    assert (change.kind, change.field) == ("non_finite", FREE.action[index].name)
    assert repr(change.requested) == repr(float(bad)) and change.applied == START[index]
    np.testing.assert_array_equal([motion.tick() for _ in range(5)], np.tile(START, (5, 1)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1.1, 1.3), st.floats(0.1, 0.7)), min_size=1, max_size=6), st.integers(0, 5))
def test_a_hold_brakes_and_then_stays_to_the_last_bit(asked, ticks: int) -> None:
    motion = moving(BOUND, np.array([0.3, 0.4]))
    for values in asked:
        motion.command(np.array(values, np.float32))
        for _ in range(ticks):
            motion.tick()
    motion.hold()
    slowest = max(v / a for v, a in zip(LIMITS.velocity, LIMITS.acceleration, strict=True))
    way = np.array([motion.tick() for _ in range(60)])
    rest = round(slowest / TICK_S) + 2
    np.testing.assert_array_equal(way[rest:], np.tile(way[-1], (60 - rest, 1)))
    assert not motion.moving


def test_when_no_command_comes_it_brakes_and_holds_until_one_does() -> None:
    motion = moving(QUICK, np.array([-0.5, 0.3]))
    for i in range(1, 4):
        at = period(motion, [-0.5 + 0.3 * i, 0.3])[-1, 0]
    assert motion.moving
    way = [float(motion.tick()[0]) for _ in range(20)]
    assert at < way[0] < way[-1] == way[-2] <= at + 4.0**2 / (2 * 30.0)
    assert period(motion, [way[-1] + 0.01, 0.3])[-1, 0] == np.float32(way[-1] + 0.01)


def test_the_tool_stays_in_the_workspace_and_is_told_of() -> None:
    motion = moving(BOUND, np.array([0.3, 0.5]))
    for _ in range(5):
        way = period(motion, [0.3, 0.1])  # down through the table
    change = next(i for i in motion.take_interventions() if i.kind == "workspace")
    assert change.field == "tool_z"
    assert change.requested < 0.2 <= change.applied
    assert 0.2 <= tool(way[-1])[2] < 0.21


def test_a_tool_that_begins_outside_may_come_in_and_not_go_further_out() -> None:
    below = np.array([0.5, 0.15])
    motion = moving(BOUND, below)
    for _ in range(3):
        way = period(motion, [0.5, 0.1])
    np.testing.assert_allclose(way[-1], below, atol=1e-3)
    assert {i.field for i in motion.take_interventions()} == {"tool_z"}
    for _ in range(5):
        way = period(motion, [0.5, 0.4])
    np.testing.assert_allclose(way[-1], [0.5, 0.4], atol=1e-7)
    for _ in range(5):
        way = period(motion, [0.5, 0.1])
    assert tool(way[-1])[2] >= 0.2


def test_a_delta_is_as_commanded_for_its_period_and_zero_after_it() -> None:
    spec = replace(FREE, action=(FREE.action[0], Field("turn", "rad", -0.5, 0.5, mode="delta")))
    motion = Motion(spec, TICK_S)
    motion.begin(np.array([0.1, 0.0]))
    way = period(motion, [0.2, 0.3])
    np.testing.assert_allclose(way[:, 1], 0.3, atol=1e-7)
    assert motion.tick()[1] == 0.0
    (change,) = motion.command(np.array([np.nan, 0.4], np.float32))
    assert change.field == "pan" and motion.tick()[1] == 0.0
    (change,) = motion.command(np.array([0.1, 7.0], np.float32))
    assert (change.field, change.applied, motion.tick()[1]) == ("turn", 0.5, 0.5)


def test_where_nobody_knows_the_place_the_first_command_is_taken_as_it_stands() -> None:
    motion = Motion(FREE, 0.1)
    np.testing.assert_array_equal(motion.tick(), [0.0, 0.1])  # zeros, as near as the range has them
    np.testing.assert_array_equal(period(motion, [-1.0, 0.5]), np.array([[-1.0, 0.5]], np.float32))
    with pytest.raises(UnfitLimitsError, match="begin there"):
        Motion(QUICK, 0.1).command(START)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidObservationError, match="nowhere"):
        moving(FREE).begin(np.array([0.0, np.nan]))
    with pytest.raises(UnfitLimitsError, match="whole number of ticks"):
        Motion(FREE, 0.03)
    with pytest.raises(UnfitLimitsError, match="no tool_position"):
        Motion(BOUND, TICK_S)
    with pytest.raises(InvalidActionError, match=r"shape \(3,\).*pan.*lift"):
        moving(FREE).command(np.zeros(3, np.float32))


def test_the_tool_slides_along_a_face_of_the_workspace() -> None:
    motion = moving(BOUND, np.array([-0.2, 0.5]))
    for _ in range(10):
        way = period(motion, [0.3, 0.1])  # below the box, and to the left
    assert 0.2 <= tool(way[-1])[2] < 0.201 and way[-1, 0] == pytest.approx(0.3, abs=1e-6)


def test_a_robot_that_is_out_of_its_range_is_not_commanded() -> None:
    motion = Motion(QUICK, TICK_S)
    with pytest.raises(InvalidObservationError, match=r"'pan': 1\.7"):
        motion.begin(np.array([1.7, 0.3]))
    motion.begin(np.array([1.3001, 0.3]))  # as far as one tick may go, it is where sensors are not exact


def test_a_workspace_that_cannot_be_kept_is_refused() -> None:
    pushes = tuple(replace(f, mode="delta") for f in FREE.action)
    limits = Limits(workspace=LIMITS.workspace)
    with pytest.raises(UnfitLimitsError, match="deltas"):
        Motion(replace(FREE, action=pushes, limits=limits), TICK_S, tool)

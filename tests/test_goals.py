"""What a servo is told may be the last that it is told: in range, near the arm, eased where it strains."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.errors import HardwareError
from embodied.hardware.bus import Reading
from embodied.hardware.calibration import Calibration, JointCalibration, counts_of
from embodied.hardware.goals import Goals
from embodied.hardware.health import CERTAIN, Health, ServoBounds
from embodied.robots.so101 import ARM, STS3215

RAD = 2 * np.pi / 4096
LOW, HIGH = counts_of(ARM, ARM.low_rad) + 30, counts_of(ARM, ARM.high_rad) - 30
CALIBRATION = Calibration(
    ARM.name,
    "2026-11-25T20:00:00+00:00",
    {n: JointCalibration(i, STS3215, "3.10", 0, int(LOW[i - 1]), int(HIGH[i - 1])) for i, n in enumerate(ARM.names, 1)},
)
MIDDLE = np.full(6, 2048)


def reading(
    position: Sequence[int] | np.ndarray = MIDDLE,
    *,
    time_s: float = 0.0,
    load: float = 0.0,
    celsius: float = 30.0,
    volts: float = 12.0,
    alarms: frozenset[str] = frozenset(),
) -> Reading:
    """Return what six servos sense, the last of them in the trouble that is named."""
    rest = np.array([0.0] * 5 + [1.0])
    return Reading(
        time_ns=round(time_s * 1e9),
        position=np.array(position),
        velocity_counts_s=np.zeros(6),
        load=rest * load,
        voltage_v=12.0 + rest * (volts - 12.0),
        temperature_c=30.0 + rest * (celsius - 30.0),
        alarms=(frozenset(),) * 5 + (alarms,),
    )


@given(st.lists(st.floats(-10, 10), min_size=6, max_size=6), st.floats(0, 1))
def test_whatever_the_setpoint_a_goal_is_in_range_and_no_further_than_the_arm_may_coast(
    setpoint: list[float], age_s: float
) -> None:
    goals = Goals(ARM, CALIBRATION).of(np.array(setpoint), reading(), round(age_s * 1e9))
    reach = np.array(ARM.limits.velocity) / RAD * max(0.0, ARM.watchdog_s - age_s)
    assert (np.abs(goals - MIDDLE) <= reach).all()
    assert (goals >= LOW).all() and (goals <= HIGH).all()


def test_a_goal_near_the_arm_is_the_setpoint_to_the_count() -> None:
    setpoint = np.array([0.1, -0.2, 0.3, -0.1, 0.0, 0.2])
    np.testing.assert_array_equal(Goals(ARM, CALIBRATION).of(setpoint, reading(), 0), counts_of(ARM, setpoint))


def test_a_setpoint_beyond_the_calibrated_range_is_limited_and_said_once() -> None:
    goals, at_end = Goals(ARM, CALIBRATION), reading([2048] * 5 + [int(HIGH[5]) - 10])
    setpoint = np.array([*np.zeros(5), ARM.high_rad[5]])
    for _ in range(3):
        assert goals.of(setpoint, at_end, 0)[5] == HIGH[5]
    (change,) = goals.take_interventions()
    assert (change.kind, change.field) == ("position", "gripper")
    assert change.requested == ARM.high_rad[5] and change.applied == pytest.approx((HIGH[5] - 2048) * RAD)
    goals.of(np.zeros(6), at_end, 0)
    assert not goals.take_interventions()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_setpoint_that_is_no_number_is_no_goal(value: float) -> None:
    with pytest.raises(HardwareError, match=r"so101 was given the setpoint .*, which is no place"):
        Goals(ARM, CALIBRATION).of(np.array([0.0, value, 0.0, 0.0, 0.0, 0.0]), reading(), 0)


def test_a_joint_that_strained_for_too_long_stays_where_it_is_and_the_others_go_on() -> None:
    goals = Goals(ARM, CALIBRATION)
    goals.ease(np.array([False] * 5 + [True]), reading([2048] * 5 + [2100]))
    there = goals.of(np.full(6, 0.1), reading(), 0)
    assert there[5] == 2100 and (there[:5] == counts_of(ARM, np.full(6, 0.1))[:5]).all()
    goals.begin()
    assert goals.of(np.full(6, 0.1), reading(), 0)[5] == counts_of(ARM, np.full(6, 0.1))[5]


def test_a_joint_that_stays_behind_is_blocked_once_that_lasts_but_a_grip_is_not() -> None:
    goals, setpoint = Goals(ARM, CALIBRATION), np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.5])
    for tick in range(30):
        goals.of(setpoint, reading(time_s=tick / 50), round(tick / 50 * 1e9))
        assert not goals.faults or tick / 50 > 0.4
    (fault,) = goals.faults
    assert (fault.part, fault.kind) == ("shoulder_pan", "blocked") and "17°" in fault.detail
    goals.of(np.zeros(6), reading(time_s=0.7), round(0.7e9))
    assert not goals.faults


def health() -> Health:
    return Health(ARM, [ServoBounds(most_c=70.0, least_v=4.0, most_v=14.0)] * 6, np.full(6, 12.0))


@pytest.mark.parametrize(
    ("trouble", "kind", "stops", "words"),
    [
        ({"celsius": 56.0}, "temperature", False, "gripper is warm, 56 °C, and lets go at 70 °C"),
        ({"celsius": 66.0}, "temperature", True, "gripper is too hot, 66 °C.*stopped.*embodied relax"),
        ({"volts": 10.0}, "voltage", False, "gripper has a low supply, 10.0 V"),
        ({"volts": 8.0}, "voltage", True, "gripper has a supply it cannot work with, 8.0 V.*stopped.*power supply"),
        ({"volts": 15.0}, "voltage", True, "gripper has a supply it cannot work with, 15.0 V"),
        ({"alarms": frozenset({"overload"})}, "load", True, "gripper's servo gives its overload alarm.*stopped"),
        ({"alarms": frozenset({"sensor"})}, "servo", True, "gripper's servo gives its sensor alarm.*off and on"),
    ],
)
def test_trouble_is_named_once_it_is_certain_and_stops_the_arm_where_it_must(
    trouble: dict[str, object], kind: str, stops: bool, words: str
) -> None:
    watch = health()
    for _ in range(CERTAIN - 1):
        watch.note(reading(**trouble))  # type: ignore[arg-type]
        assert not watch.faults and not watch.must_stop
    watch.note(reading(**trouble))  # type: ignore[arg-type]
    (fault,) = watch.faults
    assert (fault.part, fault.kind, watch.must_stop) == ("gripper", kind, stops)

    assert re.search(words, fault.detail), fault.detail
    watch.note(reading())
    assert not watch.faults and not watch.must_stop


def test_a_single_wrong_reading_between_right_ones_alarms_nobody() -> None:
    watch = health()
    for _ in range(5):
        for _ in range(CERTAIN - 1):
            watch.note(reading(celsius=120.0, volts=1.0, alarms=frozenset({"overload"})))
        watch.note(reading())
        assert not watch.faults


def test_strain_is_said_after_half_a_second_and_stops_the_arm_before_the_servo_gives_up() -> None:
    watch, said_s, stopped_s = health(), 0.0, 0.0
    for tick in range(1, 100):
        watch.note(reading(load=-0.9))
        said_s = said_s or (tick / ARM.servo_hz if watch.faults else 0.0)
        stopped_s = stopped_s or (tick / ARM.servo_hz if watch.must_stop else 0.0)
    assert 0.4 <= said_s <= 0.6 and 1.2 <= stopped_s <= 1.8
    assert watch.overloaded.tolist() == [False] * 5 + [True]

"""The SO-101's kinematics in numpy are those of its MuJoCo model, and small moves of the tool come out as asked."""

from __future__ import annotations

import numpy as np
import pytest

from embodied.hardware.chain import Chain, Link
from embodied.robots.so101 import ARM, CHAIN
from envs.kinematics import ArmKinematics

HOME = np.array(ARM.home_rad)


def anywhere(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(ARM.low_rad, ARM.high_rad, (count, 6))


def test_the_tool_is_where_mujoco_says_it_is() -> None:
    kinematics = ArmKinematics()
    for joints in anywhere(500):
        np.testing.assert_allclose(CHAIN.tool_position(joints), kinematics.tip(joints), atol=1e-9)


@pytest.mark.parametrize("delta", [*0.02 * np.eye(3), *-0.02 * np.eye(3)])
def test_a_nudge_moves_the_tool_as_asked_and_nothing_that_is_not_of_the_chain(delta: np.ndarray) -> None:
    moved = CHAIN.nudge(HOME, delta)
    np.testing.assert_allclose(CHAIN.tool_position(moved) - CHAIN.tool_position(HOME), delta, atol=1e-3)
    assert moved[5] == HOME[5]
    assert np.abs(moved - HOME).max() < 0.5


def test_a_nudge_of_nothing_changes_nothing() -> None:
    np.testing.assert_array_equal(CHAIN.nudge(HOME, np.zeros(3)), HOME)


def test_where_the_arm_cannot_follow_a_nudge_ends_short_of_it_and_stays_finite() -> None:
    stretched = np.zeros(6)
    moved = CHAIN.nudge(stretched, np.array([0.5, 0.0, 0.0]))
    assert np.isfinite(moved).all()
    assert CHAIN.tool_position(moved)[0] - CHAIN.tool_position(stretched)[0] < 0.3


def test_an_axis_may_point_anywhere() -> None:
    planar = Chain((Link((0, 0, 0), (2, 0, 0, 0), (0, -3, 0)), Link((1, 0, 0), (1, 0, 0, 0), (0, -1, 0))), (1, 0, 0))
    np.testing.assert_allclose(planar.tool_position(np.array([np.pi / 2, -np.pi / 2])), [1, 0, 1], atol=1e-12)

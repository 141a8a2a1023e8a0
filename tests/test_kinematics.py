"""Inverse kinematics reaches what it says it reaches, says so when it cannot, and depends on the pose alone."""

import numpy as np
import pytest

from envs.kinematics import ArmKinematics, ToolPose


@pytest.fixture(scope="module")
def arm():
    return ArmKinematics()


def random_joints(rng, arm, tilt_rad=0.0):
    """Draw joints whose hand points down, leaning outward by tilt_rad."""
    while True:
        lift, elbow = rng.uniform(-1.0, 0.9), rng.uniform(-0.8, 1.3)
        joints = np.array(
            [rng.uniform(-1, 1), lift, elbow, np.pi / 2 - tilt_rad - lift - elbow, rng.uniform(-1.5, 1.5)]
        )
        if np.all((joints > arm.low_rad) & (joints < arm.high_rad)):
            return joints


def test_the_joints_of_a_pose_come_back_from_it(arm):
    rng = np.random.default_rng(0)
    for _ in range(200):
        joints = random_joints(rng, arm, tilt_rad=rng.uniform(0, 0.5))
        solution = arm.solve(arm.pose(joints))
        assert solution.reachable
        assert np.abs(solution.joints_rad - joints).max() < 0.02


def test_a_reachable_pose_is_met_within_a_millimetre_and_a_degree(arm):
    rng = np.random.default_rng(1)
    for _ in range(200):
        radius_m, azimuth = rng.uniform(0.13, 0.26), rng.uniform(-0.9, 0.9)
        position = np.array([0.0388 + radius_m * np.cos(azimuth), radius_m * np.sin(azimuth), rng.uniform(0.01, 0.10)])
        yaw = azimuth + rng.uniform(-0.8, 0.8)
        wanted = ToolPose(position, yaw, arm.least_tilt(position, yaw))
        solution = arm.solve(wanted)
        assert solution.reachable
        found = arm.pose(solution.joints_rad)
        assert np.linalg.norm(found.position_m - position) < 1e-3
        assert abs(found.yaw_rad - yaw) < np.deg2rad(1)
        assert abs(found.tilt_rad - wanted.tilt_rad) < np.deg2rad(1)


@pytest.mark.parametrize("position_m", [(0.6, 0.0, 0.05), (0.25, 0.0, 0.5), (0.05, 0.0, 0.02)])
def test_a_place_beyond_the_arm_is_reported_as_unreachable(arm, position_m):
    position = np.array(position_m)
    solution = arm.solve(ToolPose(position, 0.0, arm.least_tilt(position, 0.0)))
    assert not solution.reachable
    assert np.all((solution.joints_rad >= arm.low_rad) & (solution.joints_rad <= arm.high_rad))


def test_the_answer_does_not_depend_on_what_was_asked_before(arm):
    pose = ToolPose(np.array([0.22, 0.05, 0.03]), 0.2)
    alone = ArmKinematics().solve(pose).joints_rad
    arm.solve(ToolPose(np.array([0.15, -0.1, 0.08]), -0.4))
    assert np.array_equal(arm.solve(pose).joints_rad, alone)


def test_the_lean_grows_without_jumps_along_a_path_outward_and_upward(arm):
    path = np.linspace([0.18, 0.0, 0.02], [0.33, 0.05, 0.15], 200)
    tilts = np.array([arm.least_tilt(point, 0.1) for point in path])
    assert tilts[0] == 0.0
    assert tilts[-1] > 0.3
    assert np.abs(np.diff(tilts)).max() < 0.02

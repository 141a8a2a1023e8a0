"""Inverse kinematics of the SO-101: joint angles that put the gripper at a point, pointing down or leaning outward."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ARM_XML = Path(__file__).parent.parent / "sim_assets" / "so101" / "so101.xml"
ARM_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
ITERATIONS = 10
POSITION_TOLERANCE_M = 1e-4
ANGLE_TOLERANCE_RAD = 5e-3
# Angles matter less than metres: a tip 1 mm off is as bad as 20 mrad of lean.
ORIENTATION_COST = 0.05
MOST_TILT_RAD = 1.3
# A straight elbow is singular: there, a small motion of the tip asks for a large one of the joints.
STRAIGHT_MARGIN_M = 0.003
RANGE_MARGIN_RAD = 0.02
# Facts of so101.xml: from the site to the wrist's roll axis along the closing direction, and where roll 0 points.
ROLL_AXIS_M = 0.0079
ROLL_ZERO_RAD = 0.0487


@dataclass(frozen=True)
class ToolPose:
    """Where the gripper's tip is, in baseframe.

    position_m (3,) is the site gripperframe; yaw_rad the heading of its closing direction; tilt_rad how far its fingers
    lean outward from straight down, in the vertical plane through the pan axis and the tip.
    """

    position_m: Array
    yaw_rad: float
    tilt_rad: float = 0.0


@dataclass(frozen=True)
class Solution:
    """Joint angles for a tool pose, how exact they are, and whether the pose is reachable."""

    joints_rad: Array  # (5,) in the order of ARM_JOINTS
    position_error_m: float
    angle_error_rad: float

    @property
    def reachable(self) -> bool:
        """Whether the joints reach the pose within 1 mm and 1 degree."""
        return self.position_error_m < 1e-3 and self.angle_error_rad < np.deg2rad(1.0)


class ArmKinematics:
    """Solves the arm's kinematics on a private copy of it, in baseframe."""

    def __init__(self, arm_xml: Path = ARM_XML) -> None:
        model = mujoco.MjModel.from_xml_path(str(arm_xml))
        self._plain_model, self._plain = model, mujoco.MjData(model)
        self._plain_joints: Array = self._plain.qpos  # views: to find them anew takes longer than the kinematics
        self._plain_tip: Array = self._plain.site_xpos[model.site("gripperframe").id]
        self._configuration = mink.Configuration(model)
        self._limits = [mink.ConfigurationLimit(model, gain=1.0)]
        self._task = mink.FrameTask("gripperframe", "site", 1.0, ORIENTATION_COST)
        self.low_rad: Array = model.jnt_range[:5, 0].copy()
        self.high_rad: Array = model.jnt_range[:5, 1].copy()
        self._q: Array = np.zeros(model.nq)
        self._update(np.zeros(5))
        data = self._configuration.data
        pan, shoulder, elbow, wrist = (data.body(b).xpos for b in ("shoulder", "upper_arm", "lower_arm", "wrist"))
        self._pan_xy_m: Array = pan[:2].copy()
        self._shoulder_rz_m: Array = np.array([shoulder[0] - pan[0], shoulder[2]])
        upper, fore = (elbow - shoulder)[[0, 2]], (wrist - elbow)[[0, 2]]
        self._links_m = (float(np.hypot(*upper)), float(np.hypot(*fore)))
        self._links_zero_rad = (float(np.arctan2(*upper[::-1])), float(np.arctan2(*fore[::-1])))
        self._hand_m = float(data.site("gripperframe").xpos[0] - wrist[0])

    def tip(self, joints_rad: Array) -> Array:
        """Return the site gripperframe (3,), m, at joints_rad (6,), the gripper's the last: quicker than pose."""
        self._plain_joints[:] = joints_rad
        mujoco.mj_kinematics(self._plain_model, self._plain)
        return self._plain_tip.copy()

    def pose(self, joints_rad: Array) -> ToolPose:
        """Return the tool pose at joints_rad (5,)."""
        self._update(joints_rad)
        site = self._configuration.data.site("gripperframe")
        position, rotation = site.xpos.copy(), site.xmat.reshape(3, 3)
        azimuth = -float(joints_rad[0])
        outward = rotation[0, 0] * np.cos(azimuth) + rotation[1, 0] * np.sin(azimuth)
        tilt = float(np.arctan2(outward, -rotation[2, 0]))
        upright = _lean(azimuth, tilt).T @ rotation
        return ToolPose(position, float(np.arctan2(upright[1, 2], upright[0, 2])), tilt)

    def azimuth(self, position_m: Array, yaw_rad: float) -> float:
        """Return the heading in rad from the pan axis to the hand, whose roll axis passes beside position_m."""
        x, y = np.asarray(position_m)[:2] - self._pan_xy_m
        return float(np.arctan2(y + ROLL_AXIS_M * np.sin(yaw_rad), x + ROLL_AXIS_M * np.cos(yaw_rad)))

    def least_tilt(self, position_m: Array, yaw_rad: float) -> float:
        """Return the smallest outward lean in rad with which the arm gets to position_m; continuous, 0 in most places.

        Far away the arm is too short to point straight down, and high up the wrist cannot bend that far. Where no lean
        serves, return the one that the search ended with: solve will report the pose as unreachable.
        """
        if self._fits(ToolPose(position_m, yaw_rad)):
            return 0.0
        low, high = 0.0, 0.1
        while high < MOST_TILT_RAD and not self._fits(ToolPose(position_m, yaw_rad, high)):
            low, high = high, high + 0.1
        for _ in range(8):
            middle = (low + high) / 2
            low, high = (low, middle) if self._fits(ToolPose(position_m, yaw_rad, middle)) else (middle, high)
        return high

    def solve(self, pose: ToolPose) -> Solution:
        """Return the joints that best reach pose; check Solution.reachable.

        The planar arm's closed form starts mink's steps, so the answer depends on the pose alone.
        """
        rotation = mink.SO3.from_matrix(self._rotation(pose))
        self._task.set_target(mink.SE3.from_rotation_and_translation(rotation, np.asarray(pose.position_m, np.float64)))
        self._update(np.clip(self._guess(pose), self.low_rad, self.high_rad))
        for _ in range(ITERATIONS):
            error = self._task.compute_error(self._configuration)
            if np.linalg.norm(error[:3]) < POSITION_TOLERANCE_M and np.linalg.norm(error[3:]) < ANGLE_TOLERANCE_RAD:
                break
            velocity = mink.solve_ik(self._configuration, [self._task], 1.0, "daqp", damping=1e-8, limits=self._limits)
            self._configuration.integrate_inplace(velocity, 1.0)
        error = self._task.compute_error(self._configuration)
        joints = np.clip(self._configuration.q[:5], self.low_rad, self.high_rad)  # a rounding error may lie beyond
        return Solution(joints, float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:])))

    def _guess(self, pose: ToolPose) -> Array:
        """Return the joints by closed form, exact but for the 0.2 mm by which the hand leaves the arm's plane."""
        azimuth = self.azimuth(pose.position_m, pose.yaw_rad)
        roll = (pose.yaw_rad - azimuth + ROLL_ZERO_RAD + np.pi) % (2 * np.pi) - np.pi
        return np.array([-azimuth, *self._planar(self._wrist(pose), pose.tilt_rad), roll])

    def _rotation(self, pose: ToolPose) -> Array:
        closing = np.array([np.cos(pose.yaw_rad), np.sin(pose.yaw_rad), 0.0])
        down = np.array([0.0, 0.0, -1.0])
        upright = np.column_stack([down, np.cross(closing, down), closing])
        return np.asarray(_lean(self.azimuth(pose.position_m, pose.yaw_rad), pose.tilt_rad) @ upright)

    def _fits(self, pose: ToolPose) -> bool:
        wrist = self._wrist(pose)
        upper_m, fore_m = self._links_m
        if not abs(upper_m - fore_m) < np.hypot(*wrist) < upper_m + fore_m - STRAIGHT_MARGIN_M:
            return False
        joints = self._planar(wrist, pose.tilt_rad)
        low, high = self.low_rad[1:4] + RANGE_MARGIN_RAD, self.high_rad[1:4] - RANGE_MARGIN_RAD
        return bool(np.all((joints > low) & (joints < high)))

    def _wrist(self, pose: ToolPose) -> Array:
        """Return the wrist's place in the arm's plane, from the shoulder: (outward, up) in m."""
        azimuth = self.azimuth(pose.position_m, pose.yaw_rad)
        along = ROLL_AXIS_M * np.cos(pose.yaw_rad - azimuth)
        x, y = np.asarray(pose.position_m)[:2] - self._pan_xy_m
        tip = np.array([x * np.cos(azimuth) + y * np.sin(azimuth), pose.position_m[2]])
        out, down = np.sin(pose.tilt_rad), np.cos(pose.tilt_rad)
        hand = np.array([self._hand_m * out - along * down, -self._hand_m * down - along * out])
        return np.asarray(tip - self._shoulder_rz_m - hand)

    def _planar(self, wrist: Array, tilt_rad: float) -> Array:
        """Return shoulder_lift, elbow_flex and wrist_flex with the elbow up (law of cosines), (3,) rad."""
        (upper_m, fore_m), (upper_zero, fore_zero) = self._links_m, self._links_zero_rad
        distance = float(np.hypot(*wrist))
        cosine = (upper_m**2 + distance**2 - fore_m**2) / (2 * upper_m * distance)
        upper = np.arctan2(wrist[1], wrist[0]) + np.arccos(np.clip(cosine, -1, 1))
        fore = np.arctan2(wrist[1] - upper_m * np.sin(upper), wrist[0] - upper_m * np.cos(upper))
        lift = upper_zero - upper
        elbow = fore_zero - fore - lift
        return np.array([lift, elbow, np.pi / 2 - tilt_rad - lift - elbow])

    def _update(self, joints_rad: Array) -> None:
        self._q[:5] = joints_rad
        self._configuration.update(self._q)


def _lean(azimuth_rad: float, tilt_rad: float) -> Array:
    """Return the rotation that leans straight down outward by tilt_rad towards azimuth_rad."""
    x, y = np.sin(azimuth_rad), -np.cos(azimuth_rad)  # the horizontal axis to lean about
    c, s = np.cos(tilt_rad), np.sin(tilt_rad)
    about = np.array([[0.0, 0.0, y], [0.0, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(c * np.eye(3) + s * about + (1 - c) * np.outer([x, y, 0.0], [x, y, 0.0]))

"""The scripted expert of the SO-101's tasks: reads the simulator's truth and answers with the next joint targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embodied.types import Action, Observation, PoseAction, RobotSpec
from envs.kinematics import ROLL_ZERO_RAD, ArmKinematics, Array, ToolPose
from envs.layout import PAN_AXIS_X_M
from envs.motions import View
from envs.scene import Scene

if TYPE_CHECKING:
    from envs.so101 import SO101

CRUISE_M = 0.024  # in a control step of 0.1 s: 0.24 m/s
BRAKING = (0.008, 0.35)  # m, and m for every m that is left: slower towards the aim, where precision counts
EASE = 0.7  # most of the way left that a step may go
JOINT_STEP_RAD = 0.3
CLIMB_FIRST_M = 0.02
# How near to the pan axis the tip can come before the hand meets the shoulder: (height, radius) in m, found by trying.
NEAREST_M = ((0.055, 0.10), (0.082, 0.118))


class Expert:
    """Looks at the simulator, never at the frames: a function of the present, with nothing remembered between calls."""

    def __init__(self, robot: SO101) -> None:
        self._robot = robot
        self._arm = ArmKinematics()

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; the scene says what it is about."""

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return one PoseAction: the joint targets a tenth of a second from here; RuntimeError before a reset."""
        if (task := self._robot.task) is None:
            raise RuntimeError("no episode has begun: reset the robot first")
        scene = self._robot.scene
        joints = scene.arm_rad
        tool = self._arm.pose(joints[:5])
        goal = np.array(task.goal_position(scene))
        view = look(scene, tool, float(joints[5]), goal)
        aim = task.motion(view)
        position = _clear_of_base(tool.position_m + _stride(aim.position_m - tool.position_m))
        target = self._joints_at(position)
        gripper = view.turned(aim.gripper_rad)
        move = target - joints[:5]
        move *= min(1.0, JOINT_STEP_RAD / max(1e-9, float(np.abs(move).max())))
        return [PoseAction(np.array([*(joints[:5] + move), gripper], dtype=np.float32))]

    def _joints_at(self, position_m: Array) -> Array:
        yaw = self._arm.azimuth(position_m, 0.0) - ROLL_ZERO_RAD
        yaw = self._arm.azimuth(position_m, yaw) - ROLL_ZERO_RAD
        tilt = self._arm.least_tilt(position_m, yaw)
        return self._arm.solve(ToolPose(position_m, yaw, tilt)).joints_rad


def look(scene: Scene, tool: ToolPose, gripper_rad: float, goal_m: Array) -> View:
    """Return what a motion needs to know of the scene."""
    target = scene.shown.target
    return View(
        tip_m=tool.position_m,
        closing=np.array([np.cos(tool.yaw_rad), np.sin(tool.yaw_rad)]),
        gripper_rad=gripper_rad,
        cube_m=scene.position(target),
        goal_m=goal_m,
        held=len(scene.fingers_on(target)) == 2,
    )


def _clear_of_base(position_m: Array) -> Array:
    """Return position_m (3,), moved outward if the raised hand would meet the shoulder there."""
    outward = position_m[:2] - np.array([PAN_AXIS_X_M, 0.0])
    radius_m = float(np.hypot(*outward))
    least_m = float(np.interp(position_m[2], *NEAREST_M))
    if radius_m >= least_m:
        return position_m
    return np.array([*(position_m[:2] + outward * (least_m / max(radius_m, 1e-3) - 1)), position_m[2]])


def _stride(way_m: Array) -> Array:
    """Return how much of the way (3,) to go in one step: up before across, fast while far, gently at the end."""
    across = np.clip(1 - (way_m[2] - 0.004) / CLIMB_FIRST_M, 0.0, 1.0)
    way = way_m * np.array([across, across, 1.0])
    length = float(np.linalg.norm(way))
    cap_m = min(CRUISE_M, BRAKING[0] + BRAKING[1] * length)
    return np.asarray(way * min(EASE, cap_m / max(length, 1e-9)))

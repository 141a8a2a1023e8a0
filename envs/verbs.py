"""What the words that the SO-101 obeys mean for its joints, and the sentence that best describes a motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.words import GRIPS, MOVES, STEP_M, WAIT
from envs.kinematics import ArmKinematics, ToolPose

Array = NDArray[np.float64]

STILL_M = 0.006  # over half a second, less than this is no motion worth a word
STILL_GRIPPER_RAD = 0.12

VERBS = (*MOVES, *GRIPS, WAIT)


class OutOfReachError(Exception):
    """A verb would take the gripper where the arm cannot follow."""


def lower(verb: str, target_rad: Array, kinematics: ArmKinematics) -> Array:
    """Return the joint targets (6,) that carry out a verb of VERBS from target_rad (6,).

    The gripper keeps its heading, and its lean too where the arm allows. Raise OutOfReachError where it cannot go.
    """
    lowered = target_rad.copy()
    if verb in GRIPS:
        lowered[5] += GRIPS[verb]
    elif verb in MOVES:
        pose = kinematics.pose(target_rad[:5])
        position = pose.position_m + STEP_M * np.array(MOVES[verb])
        solution = kinematics.solve(ToolPose(position, pose.yaw_rad, pose.tilt_rad))
        if not solution.reachable:
            tilt_rad = kinematics.least_tilt(position, pose.yaw_rad)
            solution = kinematics.solve(ToolPose(position, pose.yaw_rad, tilt_rad))
        if not solution.reachable:
            raise OutOfReachError(verb)
        lowered[:5] = solution.joints_rad
    elif verb != WAIT:
        raise KeyError(verb)
    return lowered


def verb_for(displacement_m: Array, gripper_change_rad: float) -> str:
    """Return the verb that best describes a displacement (3,) in the base frame and a turn of the gripper's jaw."""
    if abs(gripper_change_rad) > STILL_GRIPPER_RAD:
        return "open gripper" if gripper_change_rad > 0 else "close gripper"
    if np.linalg.norm(displacement_m) < STILL_M:
        return WAIT
    return max(MOVES, key=lambda verb: float(np.dot(MOVES[verb], displacement_m)))

"""Kinematics of ALOHA's two ViperX arms: where a tool is, and the joints that bring it somewhere."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
SIDES = ("left", "right")
# From the body gripper_link to the middle between the fingers, 17 mm behind their tips.
PINCH_M = 0.137
ITERATIONS = 20
POSITION_TOLERANCE_M = 1e-4
ANGLE_TOLERANCE_RAD = 1e-3
SQUARED_DAMPING = 1e-4  # of the least squares, in m² and rad²: what keeps them calm near a straight arm
MOST_RAD = 0.3  # of a joint in one iteration


@dataclass(frozen=True)
class Pose:
    """A place (3,) m and a rotation (3, 3) in the world.

    A tool's x axis points along its fingers, its y axis from one to the other.
    """

    position_m: Array
    rotation: Array

    def of(self, inner: Pose) -> Pose:
        """Return the pose in the world of what is at inner in this frame."""
        return Pose(self.position_m + self.rotation @ inner.position_m, self.rotation @ inner.rotation)

    def inverse(self) -> Pose:
        """Return the world's pose in this frame."""
        return Pose(-self.rotation.T @ self.position_m, self.rotation.T)

    def to(self, other: Pose) -> tuple[Array, Array]:
        """Return the shift (3,) m and the rotation vector (3,) rad, in the world, from this pose to another."""
        return other.position_m - self.position_m, rotation_vector(other.rotation @ self.rotation.T)


def rotation_vector(rotation: Array) -> Array:
    """Return the rotation vector (3,) rad of a rotation (3, 3)."""
    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def rotation_about(vector: Array) -> Array:
    """Return the rotation (3, 3) by a rotation vector (3,) rad."""
    quaternion, rotation = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(9)
    mujoco.mju_quatIntegrate(quaternion, np.asarray(vector, np.float64), 1.0)
    mujoco.mju_quat2Mat(rotation, quaternion)
    return rotation.reshape(3, 3)


class ArmKinematics:
    """Solves one arm's kinematics on data of its own: what is simulated stays as it is."""

    def __init__(self, model: mujoco.MjModel, side: str) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._body = model.body(f"vx300s_{side}/gripper_link").id
        joints = [model.joint(f"vx300s_{side}/{name}") for name in JOINTS]
        self._places = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._low, self._high = np.array([joint.range for joint in joints]).T

    def pose(self, joints_rad: Array) -> Pose:
        """Return the tool's pose with the joints at joints_rad (6,)."""
        self._data.qpos[self._places] = joints_rad
        mujoco.mj_kinematics(self._model, self._data)
        rotation = self._data.xmat[self._body].reshape(3, 3).copy()
        return Pose(self._data.xpos[self._body] + PINCH_M * rotation[:, 0], rotation)

    def solve(self, aim: Pose, joints_rad: Array) -> Array:
        """Return the joints (6,) rad within their ranges that bring the tool as near to aim as joints_rad leads to."""
        joints = joints_rad.copy()
        for _ in range(ITERATIONS):
            at = self.pose(joints)
            shift, turn = at.to(aim)
            if np.linalg.norm(shift) < POSITION_TOLERANCE_M and np.linalg.norm(turn) < ANGLE_TOLERANCE_RAD:
                break
            jacobian = self._jacobian(at.position_m)
            damped = jacobian @ jacobian.T + SQUARED_DAMPING * np.eye(6)
            move = jacobian.T @ np.linalg.solve(damped, np.concatenate([shift, turn]))
            joints = np.clip(joints + move * min(1.0, MOST_RAD / np.abs(move).max()), self._low, self._high)
        return joints

    def _jacobian(self, point_m: Array) -> Array:
        mujoco.mj_comPos(self._model, self._data)
        shift, turn = np.empty((3, self._model.nv)), np.empty((3, self._model.nv))
        mujoco.mj_jac(self._model, self._data, shift, turn, point_m, self._body)
        return np.concatenate([shift, turn])[:, self._dofs]

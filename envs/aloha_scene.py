"""One gym-aloha task in its simulator: begun from its seed alone, drawn only when asked for."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodied.types import Frame, Vector
from envs.aloha_arm import JOINTS, SIDES, Pose
from envs.cameras import Cameras
from envs.projection import CUBE_CORNERS, outline
from envs.suite_robot import UnstableError

Array = NDArray[np.float64]

CAMERA = "top"
SUCCESS = 4.0  # the highest reward of both tasks
# The task's objects, the one to be moved first, and their half sizes in m.
OBJECTS = {
    "transfer_cube": {"box": (0.02, 0.02, 0.02)},
    "insertion": {"peg": (0.06, 0.01, 0.01), "socket": (0.06, 0.022, 0.022)},
}


class AlohaScene:
    """A task's environment; where its objects are no policy may see."""

    def __init__(self, task: str, *, size: int, effects: bool) -> None:
        from dm_control.rl.control import PhysicsError  # two seconds that only an episode needs
        from gym_aloha.env import AlohaEnv

        self.task, self._lost = task, PhysicsError
        self._env: Any = AlohaEnv(task)._env
        self._env.task.get_observation = lambda physics: OrderedDict()  # its own draws three pictures of 640 x 480
        self.model: mujoco.MjModel = self._env.physics.model.ptr
        self.data: mujoco.MjData = self._env.physics.data.ptr
        if not effects:
            self.model.vis.quality.offsamples = 0
        self._cameras = Cameras(self.model, size, effects=effects)
        self.fovy_deg = float(self.model.camera(CAMERA).fovy[0])
        names = [f"vx300s_{side}/{joint}" for side in SIDES for joint in JOINTS]
        self._joints = np.array([self.model.joint(name).qposadr[0] for name in names]).reshape(2, len(JOINTS))

    def begin(self, seed: int) -> None:
        """Lay the scene out by seed alone; gym-aloha's own reset draws three pictures of it."""
        from gym_aloha.tasks.sim import BOX_POSE
        from gym_aloha.utils import sample_box_pose, sample_insertion_pose

        # A global of gym-aloha's, from which its task takes the objects' poses.
        cube = self.task == "transfer_cube"
        BOX_POSE[0] = sample_box_pose(seed) if cube else np.concatenate(sample_insertion_pose(seed))
        self._env.reset()

    def step(self, setpoint: Array) -> tuple[float, bool]:
        """Carry out one action (14,); return gym-aloha's reward, 0 to 4, and whether it is the highest."""
        try:
            reward = float(self._env.step(setpoint).reward)
        except self._lost as error:  # MuJoCo has put its state back to where a model begins
            raise UnstableError(str(error)) from error
        return reward, reward == SUCCESS

    def state(self) -> Array:
        """Return the joints and grippers (14,) as gym-aloha tells them."""
        return np.asarray(self._env.task.get_qpos(self._env.physics))

    def joints_rad(self, side: str) -> Array:
        """Return the joints (6,) of an arm."""
        return np.asarray(self.data.qpos[self._joints[SIDES.index(side)]])

    def pose(self, name: str) -> Pose:
        """Return where an object is."""
        body = self.data.body(name)
        return Pose(body.xpos.copy(), body.xmat.reshape(3, 3).copy())

    def frames(self) -> dict[str, Frame]:
        """Draw the frame (size, size, 3): the middle of gym-aloha's own, which is wider."""
        return self._cameras.draw(self.data, (CAMERA,))

    def labels(self) -> dict[str, Vector]:
        """Return where target, the cube or the peg, and goal, the socket, are: each its _position (3,) in m and its
        _box (y1, x1, y2, x2) in the frame, fractions 0..1.
        """
        named = dict(zip(("target", "goal"), OBJECTS[self.task], strict=False))
        positions = {f"{name}_position": np.asarray(self.pose(o).position_m, np.float32) for name, o in named.items()}
        return positions | {f"{name}_box": self.box(thing) for name, thing in named.items()}

    def box(self, name: str) -> Vector:
        """Return an object's box (y1, x1, y2, x2) in the frame, fractions from the top left."""
        pose = self.pose(name)
        corners = pose.position_m + (CUBE_CORNERS * OBJECTS[self.task][name]) @ pose.rotation.T
        edges = outline(corners, self.data.camera(CAMERA), self.fovy_deg)
        return np.asarray(np.clip(edges, 0.0, 1.0), np.float32)

    def close(self) -> None:
        """Let go of the renderer and the simulator."""
        self._cameras.close()
        self._env.close()

"""PushT as a Robot: `make gym`, then `.venv-gym/bin/embodied host envs.pusht`.

gym-pusht pins an older pymunk and another OpenCV than the rest has, so it is hosted from an environment of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import ProtocolError
from embodied.safety import SafeRobot
from embodied.types import Camera, Field, Frame, Observation, RobotSpec, Step, Vector
from envs.pusht_tee import BOARD, CORNERS, place
from envs.suites import require_size, require_suite

if TYPE_CHECKING:
    from embodied.types import Policy

Array = NDArray[np.float64]

VERSION = "0.1.8"
CONTROL_HZ = 10.0
HORIZON = 300
SIZES_PX = (16, 512)
CAMERA = "top"
NO_FOVY_DEG = 0.0  # what is flat is not seen at an angle
TASK = "push_t"
SENTENCE = "push the grey T onto the green T"
# Pixels of the board, whatever a frame's size. The pusher swings some way past what it is told.
STATE = tuple(Field(f"pusher_{axis}", "px", -64.0, BOARD + 64.0) for axis in "xy")
ACTION = tuple(Field(f"pusher_{axis}", "px", 0.0, BOARD) for axis in "xy")
LABEL_SIZES = {"block_position": 2, "block_direction": 2, "block_box": 4}


def make(size: int = 96, render: bool = True) -> SafeRobot[PushT]:
    """Return PushT's robot with square frames of the given size; with render off no frame is drawn.

    Raise SuiteMissingError where gym-pusht is not installed, InvalidSizeError for frames too small or too large.
    """
    require_size(size, *SIZES_PX)
    require_suite("envs.pusht", "gym-pusht", VERSION, environment="gym")
    return SafeRobot(PushT(size=size, render=render))


def expert(robot: SafeRobot[PushT] | PushT) -> Policy:
    """Return the scripted expert for the robot; it sees the simulator's truth."""
    from envs.pusht_expert import Expert  # demonstrations need it, rollouts do not

    return Expert(robot.body if isinstance(robot, SafeRobot) else robot)


class PushT:
    """The pusher, its T and one episode at a time: a body, which make() puts under its limits.

    block_pose and labels() are the simulator's truth: for experts, labels and tests, never for a policy.
    """

    def __init__(self, *, size: int, render: bool) -> None:
        from gym_pusht.envs.pusht import PushTEnv

        # Its observations hold the block's pose, and none of them goes any further than this.
        self._env: Any = PushTEnv(obs_type="state", observation_width=size, observation_height=size)
        self._render = render
        camera = Camera(CAMERA, size, size, NO_FOVY_DEG)
        self._spec = RobotSpec("pusht", CONTROL_HZ, (camera,), STATE, ACTION, tasks=(TASK,))
        self._steps = 0
        self._success = self._begun = self._closed = False

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    @property
    def servo_hz(self) -> float:
        """Return gym-pusht's own rate: a setpoint a control period, in which it runs ten ticks itself."""
        return CONTROL_HZ

    @property
    def pusher(self) -> Array:
        """Return where the pusher is, (2,) px."""
        return np.array(self._env.agent.position)

    @property
    def pusher_velocity(self) -> Array:
        """Return how the pusher moves, (2,) px/s."""
        return np.array(self._env.agent.velocity)

    @property
    def block_pose(self) -> Array:
        """Return where the T's origin, the middle of its bar's far edge, is and how it is turned, (3,) px, px, rad."""
        return np.array([*self._env.block.position, self._env.block.angle])

    def reset(self, seed: int, task: str) -> Observation:
        """Begin the episode of seed, whatever was done before.

        Raise UnknownNameError for another task than push_t, ProtocolError for a negative seed or after close.
        """
        if self._closed:
            raise ProtocolError("the robot is closed")
        self._spec.require_task(task)
        if seed < 0:
            raise ProtocolError(f"a seed is 0 or more, got {seed}")
        self._env.reset(seed=seed)
        self._steps, self._success, self._begun = 0, False, True
        return self._observe(frames=True)[0]

    def follow(self, setpoints: Array, *, frames: bool) -> Step:
        """Carry out setpoints (k, 2) px, a period each, until success or the 300th ends the episode."""
        total = 0.0
        for setpoint in setpoints:
            _, reward, self._success, _, _ = self._env.step(setpoint)
            self._success = bool(self._success)
            self._steps, total = self._steps + 1, total + float(reward)
            if self._success or self._steps >= HORIZON:
                break
        observation, timing_ns = self._observe(frames=frames)
        over = self._steps >= HORIZON and not self._success
        return Step(observation, total, self._success, self._success, over, timing_ns=timing_ns)

    @property
    def label_sizes(self) -> dict[str, int]:
        """Return how many numbers each label has."""
        return dict(LABEL_SIZES)

    def labels(self) -> dict[str, Vector]:
        """Return the truth about the present observation, that after a reset too: the auxiliary targets of training.

        block_position (2,) px is the T's origin, block_direction (2,) the cosine and sine of its angle, block_box
        (y1, x1, y2, x2) its box in the frame, fractions 0..1.
        """
        if not self._begun:
            raise ProtocolError("no episode has begun: call reset first")
        pose = self.block_pose
        corners = place(CORNERS, pose)[:, ::-1] / BOARD
        box = np.clip(np.concatenate([corners.min(0), corners.max(0)]), 0.0, 1.0)
        direction = np.array([np.cos(pose[2]), np.sin(pose[2])])
        values = {"block_position": pose[:2], "block_direction": direction, "block_box": box}
        return {name: np.asarray(value, np.float32) for name, value in values.items()}

    def stop(self) -> None:
        """Do nothing: time stands still between steps, so nothing else moves."""

    def close(self) -> None:
        """Close the environment; idempotent."""
        if not self._closed:
            self._closed = True
            self._env.close()

    def _observe(self, *, frames: bool) -> tuple[Observation, dict[str, int]]:
        """Return what is seen, of which the T is a part in the frame alone, and the nanoseconds that drawing took."""
        began_ns = time.monotonic_ns()
        drawn = {CAMERA: self._draw()} if frames and self._render else {}
        timing_ns = {"render": time.monotonic_ns() - began_ns} if drawn else {}
        state = self.pusher.astype(np.float32)
        return Observation(round(self._steps / CONTROL_HZ * 1e9), drawn, state, SENTENCE), timing_ns

    def _draw(self) -> Frame:
        """Return gym-pusht's own frame (size, size, 3) of its observations, without the mark that shows the action."""
        return np.ascontiguousarray(self._env._render(), dtype=np.uint8)

"""ALOHA's two arms as a Robot: `make gym`, then `.venv-gym/bin/embodied host envs.aloha`.

gym-aloha pins an older MuJoCo than the rest has, so it is hosted from an environment of its own.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodied.errors import ProtocolError
from embodied.safety import SafeRobot
from embodied.types import Camera, Field, Observation, RobotSpec, Step, Vector
from envs.aloha_arm import JOINTS, SIDES
from envs.aloha_scene import CAMERA, OBJECTS, SUCCESS, AlohaScene
from envs.suites import require_size, require_suite

if TYPE_CHECKING:
    from embodied.types import Policy

Array = NDArray[np.float64]

VERSION = "0.1.5"
CONTROL_HZ = 50.0
HORIZON = 400
SIZES_PX = (16, 480)
FOVY_DEG = 78.0
MOST_SEED = 2**32 - 1  # of the generator that gym-aloha draws from
SENTENCES = {
    "transfer_cube": "pick up the red cube with the right arm and hand it to the left arm",
    "insertion": "insert the red peg into the blue socket",
}
RANGES_RAD = (  # of the model's actuators
    (-3.14158, 3.14158),
    (-1.85005, 1.25664),
    (-1.76278, 1.6057),
    (-3.14158, 3.14158),
    (-1.8675, 2.23402),
    (-3.14158, 3.14158),
)
_ARM = tuple(zip(JOINTS, RANGES_RAD, strict=True))
FIELDS = tuple(
    field
    for side in SIDES
    for field in (
        *(Field(f"{side}_{name}", "rad", low, high) for name, (low, high) in _ARM),
        Field(f"{side}_gripper", "", 0.0, 1.0),  # shut to open
    )
)
LABEL_SIZES = {f"{name}_{kind}": n for name in ("target", "goal") for kind, n in (("position", 3), ("box", 4))}


def make(size: int = 128, effects: bool = False, render: bool = True) -> SafeRobot[Aloha]:
    """Return ALOHA's robot with square frames of the given size.

    effects draws as gym-aloha does, with shadows, reflections and multisampling, at several times the cost. With render
    off no frame is drawn. Raise SuiteMissingError where gym-aloha is not installed, InvalidSizeError for frames too
    small or too large to draw.
    """
    require_size(size, *SIZES_PX)
    require_suite("envs.aloha", "gym-aloha", VERSION, environment="gym")
    return SafeRobot(Aloha(size=size, effects=effects, render=render))


def expert(robot: SafeRobot[Aloha] | Aloha) -> Policy:
    """Return the scripted expert for the robot; it sees the simulator's truth."""
    from envs.aloha_expert import Expert  # demonstrations need it, rollouts do not

    return Expert(robot.body if isinstance(robot, SafeRobot) else robot)


class Aloha:
    """The two simulated arms and one episode at a time: a body, which make() puts under its limits.

    scene and labels() are the simulator's truth: for experts, labels and tests, never for a policy.
    """

    scene: AlohaScene | None

    def __init__(self, *, size: int, effects: bool, render: bool) -> None:
        self._render = render
        self._make_scene = partial(AlohaScene, size=size, effects=effects)
        camera = Camera(CAMERA, size, size, FOVY_DEG)
        self._spec = RobotSpec("aloha", CONTROL_HZ, (camera,), FIELDS, FIELDS, tasks=tuple(SENTENCES))
        self.scene = None
        self._steps = 0
        self._success = self._closed = False

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    @property
    def servo_hz(self) -> float:
        """Return gym-aloha's own rate: a setpoint a control period."""
        return CONTROL_HZ

    def reset(self, seed: int, task: str) -> Observation:
        """Begin the episode of seed and task, whatever was done before.

        Raise UnknownNameError for a task that gym-aloha does not have, ProtocolError after close and for a seed that is
        negative or beyond 32 bits.
        """
        if self._closed:
            raise ProtocolError("the robot is closed")
        self._spec.require_task(task)
        if not 0 <= seed <= MOST_SEED:
            raise ProtocolError(f"a seed is 0 to {MOST_SEED}, got {seed}")
        if self.scene is None or self.scene.task != task:
            self._leave()
            self.scene = self._make_scene(task)
        self.scene.begin(seed)
        self._steps, self._success = 0, False
        return self._observe(frames=True)[0]

    def follow(self, setpoints: Array, *, frames: bool) -> Step:
        """Carry out setpoints (k, 14), a period each, until success or the 400th ends the episode."""
        assert self.scene is not None
        total = 0.0
        for setpoint in setpoints:
            reward = self.scene.step(setpoint)
            self._success = reward == SUCCESS
            self._steps, total = self._steps + 1, total + reward
            if self._success or self._steps >= HORIZON:
                break
        observation, timing_ns = self._observe(frames=frames)
        over = self._steps >= HORIZON and not self._success
        return Step(observation, total, self._success, self._success, over, timing_ns=timing_ns)

    @property
    def label_sizes(self) -> dict[str, int]:
        """Return how many numbers each label has, those of the goal included, which only the insertion has."""
        return dict(LABEL_SIZES)

    def labels(self) -> dict[str, Vector]:
        """Return the truth about the present observation, that after a reset too: the auxiliary targets of training.

        target is the cube or the peg, goal the socket: each its _position (3,) in m and its _box (y1, x1, y2, x2) in
        the frame, fractions 0..1.
        """
        if self.scene is None:
            raise ProtocolError("no episode has begun: call reset first")
        named = dict(zip(("target", "goal"), OBJECTS[self.scene.task], strict=False))
        positions = {f"{n}_position": np.asarray(self.scene.pose(o).position_m, np.float32) for n, o in named.items()}
        return positions | {f"{name}_box": self.scene.box(thing) for name, thing in named.items()}

    def stop(self) -> None:
        """Do nothing: time stands still between steps, so nothing else moves."""

    def close(self) -> None:
        """Let go of the simulator and its renderer; idempotent."""
        self._closed = True
        self._leave()

    def _leave(self) -> None:
        if self.scene is not None:
            self.scene.close()
            self.scene = None

    def _observe(self, *, frames: bool) -> tuple[Observation, dict[str, int]]:
        """Return what is seen, of which objects are a part in the frame alone, and what drawing took."""
        assert self.scene is not None
        began_ns = time.monotonic_ns()
        drawn = {CAMERA: self.scene.frame()} if frames and self._render else {}
        timing_ns = {"render": time.monotonic_ns() - began_ns} if drawn else {}
        state = self.scene.state().astype(np.float32)
        time_ns = round(self._steps / CONTROL_HZ * 1e9)
        return Observation(time_ns, drawn, state, SENTENCES[self.scene.task]), timing_ns

"""Meta-World's 50 tasks as one Robot: `make metaworld`, then `.venv-metaworld/bin/embodied host envs.metaworld`.

Meta-World pins an older MuJoCo than the rest needs, so it is hosted from an environment of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodied.errors import ProtocolError
from embodied.safety import SafeRobot
from embodied.types import Action, Camera, Field, Observation, PoseAction, RobotSpec, Step, Vector
from envs.metaworld_scene import CAMERA, VIEWS, MetaWorldScene, View, expert_for
from envs.metaworld_tasks import Task, Words, all_tasks, sentence
from envs.suites import require_size, require_suite

if TYPE_CHECKING:
    from embodied.types import Policy

Array = NDArray[np.float64]

VERSION = "3.1.1"
CONTROL_HZ = 80.0
HORIZON = 500
SIZES_PX = (16, 480)
PROPRIOCEPTION = slice(0, 4)
POINTS = {"target": slice(4, 7), "goal": slice(36, 39), "other": slice(11, 14)}  # of 39: the simulator's truth
# Meta-World clips what it says of the hand to these bounds.
STATE = (
    Field("hand_x", "m", -0.525, 0.525),
    Field("hand_y", "m", 0.348, 1.025),
    Field("hand_z", "m", -0.0525, 0.7),
    Field("gripper_opening", "", 0.0, 1.0),  # of about 0.1 m between the fingers
)
ACTION = (
    *(Field(f"move_{axis}", "cm", -1.0, 1.0, "delta") for axis in "xyz"),
    Field("gripper_effort", "", -1.0, 1.0, "delta"),  # opens below zero, closes above
)


def make(
    size: int = 128, words: Words = "plain", view: View = "whole", effects: bool = False, render: bool = True
) -> SafeRobot[MetaWorld]:
    """Return Meta-World's robot with square frames of the given size.

    words says which sentence asks for the task: see envs.metaworld_tasks.sentence. view is what of the camera's picture
    is drawn: see envs.metaworld_scene.VIEWS. effects draws as LeRobot does, with shadows, reflections and
    multisampling, at several times the cost. With render off no frame is drawn. Raise SuiteMissingError where it is not
    installed, InvalidSizeError for frames too small or too large to draw.
    """
    require_size(size, *SIZES_PX)
    require_suite("envs.metaworld", "metaworld", VERSION, environment="metaworld")
    return SafeRobot(MetaWorld(size=size, words=words, view=view, effects=effects, render=render))


def expert(robot: SafeRobot[MetaWorld] | MetaWorld) -> Policy:
    """Return Meta-World's own scripted experts for the robot; they see the simulator's truth."""
    return Expert(robot.body if isinstance(robot, SafeRobot) else robot)


class MetaWorld:
    """The simulated Sawyer and one episode at a time: a body, which make() puts under its limits.

    seen and labels() are the simulator's truth: for experts, labels and tests, never for a policy.
    """

    seen: Array  # (39,) what Meta-World says of the present, objects and goal included
    task: str

    def __init__(self, *, size: int, words: Words, view: View, effects: bool, render: bool) -> None:
        self._tasks: dict[str, Task] = all_tasks()
        self._words, self._render = words, render
        self._make_scene = partial(MetaWorldScene, size=size, view=view, effects=effects)
        self._spec = RobotSpec(
            name="metaworld",
            control_hz=CONTROL_HZ,
            cameras=(Camera(CAMERA, size, size, VIEWS[view].fovy_deg),),
            state=STATE,
            action=ACTION,
            tasks=tuple(self._tasks),
            tiers=tuple(task.tier for task in self._tasks.values()),
        )
        self._scene: MetaWorldScene | None = None
        self.task = self._instruction = ""
        self._steps = 0
        self._success = self._closed = False

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    @property
    def servo_hz(self) -> float:
        """Return Meta-World's own rate: a setpoint a control period."""
        return CONTROL_HZ

    def reset(self, seed: int, task: str) -> Observation:
        """Begin the episode of seed and task, whatever was done before.

        Raise UnknownNameError for a task that Meta-World does not have, ProtocolError for a negative seed or after
        close.
        """
        if self._closed:
            raise ProtocolError("the robot is closed")
        self._spec.require_task(task)
        if seed < 0:
            raise ProtocolError(f"a seed is 0 or more, got {seed}")
        if task != self.task or self._scene is None:
            self._leave()
            self._scene, self.task = self._make_scene(task), task
        self._instruction = sentence(self._tasks, task, self._words, seed)
        self._steps, self._success = 0, False
        self.seen = self._scene.begin(seed)
        return self._observe(frames=True)[0]

    def follow(self, setpoints: Array, *, frames: bool) -> Step:
        """Carry out setpoints (k, 4), a period each, until success or the 500th ends the episode."""
        assert self._scene is not None
        total = 0.0
        for setpoint in setpoints:
            self.seen, reward, self._success = self._scene.step(setpoint.astype(np.float32))
            self._steps, total = self._steps + 1, total + reward
            if self._success or self._steps >= HORIZON:
                break
        observation, timing_ns = self._observe(frames=frames)
        over = self._steps >= HORIZON and not self._success
        return Step(observation, total, self._success, self._success, over, timing_ns=timing_ns)

    @property
    def label_sizes(self) -> dict[str, int]:
        """Return how many numbers each label has, that of a second object included, which only three tasks have."""
        return {f"{name}_{kind}": n for name in POINTS for kind, n in (("position", 3), ("box", 4))}

    def labels(self) -> dict[str, Vector]:
        """Return the truth about the present observation, that after a reset too: the auxiliary targets of training.

        target_position, goal_position and, where the task has a second object, other_position (3,) in m; each with its
        _box (y1, x1, y2, x2), fractions 0..1 of the frame: that of a cube of 6 cm around the point.
        """
        if self._scene is None:
            raise ProtocolError("no episode has begun: call reset first")
        points = {name: point for name, place in POINTS.items() if (point := self.seen[place]).any()}
        positions = {f"{name}_position": np.asarray(point, np.float32) for name, point in points.items()}
        return positions | {f"{name}_box": self._scene.box(point) for name, point in points.items()}

    def stop(self) -> None:
        """Do nothing: time stands still between steps, so nothing else moves."""

    def close(self) -> None:
        """Let go of the simulator and its renderer; idempotent."""
        self._closed = True
        self._leave()

    def _leave(self) -> None:
        if self._scene is not None:
            self._scene.close()
            self._scene = None

    def _observe(self, *, frames: bool) -> tuple[Observation, dict[str, int]]:
        """Return what is seen, of which Meta-World's numbers but for the hand's are no part, and what drawing took."""
        assert self._scene is not None
        began_ns = time.monotonic_ns()
        drawn = {CAMERA: self._scene.frame()} if frames and self._render else {}
        timing_ns = {"render": time.monotonic_ns() - began_ns} if drawn else {}
        state = self.seen[PROPRIOCEPTION].astype(np.float32)
        time_ns = round(self._steps / CONTROL_HZ * 1e9)
        return Observation(time_ns, drawn, state, self._instruction), timing_ns


class Expert:
    """Meta-World's scripted expert of the task at hand: looks at the simulator's truth, never at the frames."""

    def __init__(self, robot: MetaWorld) -> None:
        self._robot = robot

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; the robot knows of which task."""
        self._script = expert_for(self._robot.task)

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return one PoseAction, (4,) within its range, which the experts themselves leave."""
        answer = np.asarray(self._script.get_action(self._robot.seen), np.float32)
        return [PoseAction(np.clip(answer, -1.0, 1.0))]

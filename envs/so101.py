"""The SO-101 on its table in MuJoCo, as a Robot: `embodied host envs.so101`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError, InvalidActionError, ProtocolError
from embodied.safety import limit_action
from embodied.types import (
    Action,
    Field,
    Intervention,
    Observation,
    PoseAction,
    RobotSpec,
    SkillCall,
    Step,
    TextAction,
    Vector,
)
from envs.boxes import box
from envs.cameras import Cameras
from envs.kinematics import ArmKinematics
from envs.scene import CONTROL_PERIOD_S, JOINTS, Scene
from envs.tasks import Task, all_tasks
from envs.verbs import VERBS, OutOfReachError, lower, verb_for

if TYPE_CHECKING:
    from embodied.types import Policy

Array = NDArray[np.float64]

CAMERAS = ("front", "wrist")
SKILLS = ("home", "stop", *VERBS)
HOME_RAD = np.array([0.0, -1.3, 0.45, 1.4, 0.0, 0.7])
HOME_SPREAD_RAD = np.array([0.6, 0.25, 0.25, 0.25, 0.7, 0.6])
HOME_LEAST_HEIGHT_M = 0.12  # no arm begins among the objects
HOMING_STEP_RAD = 0.15
SIZES_PX = (16, 960)
STEPS_OF_SUCCESS = 3  # a passing glimpse of the goal is not success


class InvalidSizeError(EmbodiedError):
    """Frames of a size that cannot be drawn."""


def make(size: int = 128, misdirect: bool = False, render: bool = True) -> SO101:
    """Return the simulated SO-101 with square frames of the given size.

    With misdirect the instruction names objects other than those the episode is judged on: what success is left tells
    whether a policy reads. With render off no frame is ever drawn, and no OpenGL is needed. Raise InvalidSizeError for
    frames too small or too large to draw.
    """
    if not SIZES_PX[0] <= size <= SIZES_PX[1]:
        raise InvalidSizeError(f"size is {size}; frames are {SIZES_PX[0]} to {SIZES_PX[1]} pixels wide and high")
    return SO101(size=size, misdirect=misdirect, render=render)


def expert(robot: SO101) -> Policy:
    """Return the scripted expert for the robot; it sees the simulator's truth."""
    from envs.expert import Expert  # demonstrations need it, rollouts do not

    return Expert(robot)


class SO101:
    """The arm, its table and one episode at a time.

    scene, task and labels() are the simulator's truth: for experts, labels and tests, never for a policy.
    """

    scene: Scene
    task: Task | None

    def __init__(self, *, size: int, misdirect: bool, render: bool) -> None:
        self.scene = Scene()
        self.task = None
        self._tasks = all_tasks()
        self._misdirect, self._render = misdirect, render
        self._cameras = Cameras(self.scene.model, size)
        self._kinematics = ArmKinematics()
        self._spec = _spec(self.scene, self._cameras, tuple(self._tasks))
        self._instruction = ""
        self._steps = self._streak = 0
        self._done = True
        self._closed = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    def reset(self, seed: int, task: str) -> Observation:
        """Begin the episode of seed and task.

        Raise UnknownNameError for a task the robot does not have, ProtocolError for a negative seed or after close.
        """
        if self._closed:
            raise ProtocolError("the robot is closed")
        self._spec.require_task(task)
        if seed < 0:
            raise ProtocolError(f"a seed is 0 or more, got {seed}")
        chosen = self._tasks[task]
        layout_rng, words_rng, arm_rng = np.random.default_rng([seed, *task.encode()]).spawn(3)
        layout = chosen.layout(layout_rng)
        target, goal = layout.misdirected() if self._misdirect else (layout.target, layout.goal)
        self._instruction = chosen.instruction(words_rng, layout.item(target).colour, layout.item(goal).colour)
        with self._lock:
            self.scene.reset(layout, self._draw_arm(arm_rng))
            self.task = chosen
            self._steps = self._streak = 0
            self._done = False
            return self._observe(frames=True)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions in order, 0.1 s each, until they end, the episode ends, or stop() is called."""
        if self._done:
            raise ProtocolError("no episode is running: call reset first")
        if not actions:
            raise InvalidActionError("step needs at least one action")
        for action in actions:
            if isinstance(action, PoseAction):
                self._spec.check_action(action)
        self._stopped.clear()
        executed, success = 0, False
        interventions: list[Intervention] = []
        for action in actions:
            with self._lock:
                interventions += self._carry_out(action)
                executed += 1
                success = self._judge()
            if self._done or self._stopped.is_set():
                break
        return Step(
            observation=self._observe(frames=frames),
            reward=float(success),
            success=success,
            terminated=success,
            truncated=self._done and not success,
            executed=executed,
            interventions=tuple(interventions),
            labels=self.labels(),
        )

    def labels(self) -> dict[str, Vector]:
        """Return the truth about the present observation, that after a reset too: the auxiliary targets of training.

        target_position and goal_position (3,) in m in the base frame; target_box and goal_box (y1, x1, y2, x2) in the
        front frame, fractions 0..1. Where the task has no second object, goal_box is the target's.
        """
        if self.task is None:
            raise ProtocolError("no episode has begun: call reset first")
        layout = self.scene.shown
        return {
            "target_position": self.scene.position(layout.target).astype(np.float32),
            "goal_position": np.array(self.task.goal_position(self.scene), np.float32),
            "target_box": box(self.scene, layout.target, "front"),
            "goal_box": box(self.scene, layout.goal, "front"),
        }

    def describe(self, before: Vector, after: Vector) -> str:
        """Return the text action that best describes the motion between two states (6,) half a second apart."""
        start, end = (self._kinematics.pose(state[:5].astype(np.float64)).position_m for state in (before, after))
        return verb_for(end - start, float(after[5] - before[5]))

    def stop(self) -> None:
        """Hold the measured position and drop what is left of a chunk under way."""
        self._stopped.set()
        with self._lock:
            self.scene.hold()

    def close(self) -> None:
        """Stop and let go of the renderer."""
        self.stop()
        self._done = self._closed = True
        self._cameras.close()

    def _carry_out(self, action: Action) -> tuple[Intervention, ...]:
        hold = self.scene.target_rad
        if isinstance(action, PoseAction):
            limited, interventions = limit_action(self._spec, action.values, hold.astype(np.float32))
            held = any(i.kind == "non_finite" for i in interventions)
            self.scene.advance(hold if held else limited.astype(np.float64))
            return interventions
        target, interventions = self._lower(action, hold)
        self.scene.advance(np.clip(target, self.scene.low_rad, self.scene.high_rad))
        return interventions

    def _lower(self, action: TextAction | SkillCall, hold: Array) -> tuple[Array, tuple[Intervention, ...]]:
        words = " ".join((action.text if isinstance(action, TextAction) else action.name).lower().split())
        if words == "stop":
            return self.scene.arm_rad, ()
        if words == "home":
            return hold + np.clip(HOME_RAD - hold, -HOMING_STEP_RAD, HOMING_STEP_RAD), ()
        if words not in VERBS:
            return hold, (Intervention("unknown_verb", words[:80], 0.0, 0.0),)
        try:
            return lower(words, hold, self._kinematics), ()
        except OutOfReachError:
            return hold, (Intervention("workspace", words, 0.0, 0.0),)

    def _judge(self) -> bool:
        assert self.task is not None
        self._steps += 1
        self._streak = self._streak + 1 if self.task.success(self.scene) else 0
        success = self._streak >= STEPS_OF_SUCCESS
        self._done = success or self._steps >= self.task.horizon
        return success

    def _observe(self, *, frames: bool) -> Observation:
        drawn = self._cameras.draw(self.scene.data, CAMERAS) if frames and self._render else {}
        return Observation(self.scene.time_ns, drawn, self.scene.arm_rad.astype(np.float32), self._instruction)

    def _draw_arm(self, rng: np.random.Generator) -> Array:
        while True:
            arm_rad = HOME_RAD + HOME_SPREAD_RAD * rng.uniform(-1, 1, len(JOINTS))
            if self._kinematics.pose(arm_rad[:5]).position_m[2] >= HOME_LEAST_HEIGHT_M:
                return np.asarray(arm_rad)


def _spec(scene: Scene, cameras: Cameras, tasks: tuple[str, ...]) -> RobotSpec:
    bounds = zip(JOINTS, scene.low_rad, scene.high_rad, strict=True)
    fields = tuple(Field(name, "rad", float(low), float(high)) for name, low, high in bounds)
    return RobotSpec(
        name="so101",
        control_hz=1 / CONTROL_PERIOD_S,
        cameras=cameras.declare(CAMERAS),
        state=fields,
        action=fields,
        skills=SKILLS,
        tasks=tasks,
    )

"""The SO-101 on its table in MuJoCo, as a Robot: `embodied host envs.so101`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError, ProtocolError
from embodied.safety import MAX_WORD, SafeRobot
from embodied.types import (
    Box,
    Field,
    Intervention,
    Limits,
    Observation,
    RobotSpec,
    SkillCall,
    Step,
    TextAction,
    Vector,
)
from embodied.words import ALWAYS, HOMING_STEP_RAD
from envs.boxes import box
from envs.cameras import Cameras
from envs.kinematics import ArmKinematics
from envs.scene import CONTROL_PERIOD_S, JOINTS, TICK_S, Scene
from envs.sizes import require_size
from envs.tasks import Task, all_tasks
from envs.verbs import VERBS, OutOfReachError, lower, verb_for

if TYPE_CHECKING:
    from embodied.types import Policy

Array = NDArray[np.float64]

CAMERAS = ("front", "wrist")
SKILLS = (*ALWAYS, *VERBS)
HOME_RAD = np.array([0.0, -1.3, 0.45, 1.4, 0.0, 0.7])
HOME_SPREAD_RAD = np.array([0.6, 0.25, 0.25, 0.25, 0.7, 0.6])
HOME_LEAST_HEIGHT_M = 0.12  # no arm begins among the objects
SIZES_PX = (16, 960)
STEPS_OF_SUCCESS = 3  # a passing glimpse of the goal is not success
TICKS_A_STEP = round(CONTROL_PERIOD_S / TICK_S)
# STS3215: 0.222 s for 60 degrees without load at its rated voltage. Its 3.35 N m over its own 0.028 kg m², both in
# so101.xml, are 120 rad/s²; the ramp that LeRobot sets in its registers, 38.9, costs the shipped policy 4 % of stacks.
SERVO_RAD_S = 4.7
SERVO_RAD_S2 = 100.0
# Where the fingertips can come at all, but for the table. Experts go down to 12 mm and the shipped policy to 11 mm.
WORKSPACE_M = Box((-0.34, -0.44, 0.008), (0.48, 0.44, 0.53))


class InvalidHorizonError(EmbodiedError):
    """Episodes that would be over before they begin."""


def make(
    size: int = 128, misdirect: bool = False, render: bool = True, horizon_s: float | None = None
) -> SafeRobot[SO101]:
    """Return the simulated SO-101 with square frames of the given size.

    With misdirect the instruction names objects other than those the episode is judged on: what success is left tells
    whether a policy reads. With render off no frame is ever drawn, and no OpenGL is needed. horizon_s is how long an
    episode may take, in simulated seconds; the task's own unless given, which is short for a person. Raise
    InvalidSizeError for frames too small or too large to draw, InvalidHorizonError for no time.
    """
    require_size(size, *SIZES_PX)
    if horizon_s is not None and horizon_s <= 0:
        raise InvalidHorizonError(f"horizon_s is {horizon_s}; an episode takes more than 0 s")
    return SafeRobot(SO101(size=size, misdirect=misdirect, render=render, horizon_s=horizon_s))


def expert(robot: SafeRobot[SO101] | SO101) -> Policy:
    """Return the scripted expert for the robot; it sees the simulator's truth."""
    from envs.expert import Expert  # demonstrations need it, rollouts do not

    return Expert(robot.body if isinstance(robot, SafeRobot) else robot)


class SO101:
    """The arm, its table and one episode at a time: a body, which make() puts under its limits.

    scene, task and labels() are the simulator's truth: for experts, labels and tests, never for a policy.
    """

    scene: Scene
    task: Task | None

    def __init__(self, *, size: int, misdirect: bool, render: bool, horizon_s: float | None = None) -> None:
        self.scene = Scene()
        self.task = None
        self._tasks = all_tasks()
        self._misdirect, self._render = misdirect, render
        self._horizon_ticks = None if horizon_s is None else max(1, round(horizon_s / TICK_S))
        self._cameras = Cameras(self.scene.model, size)
        self._kinematics = ArmKinematics()
        self._spec = _spec(self.scene, self._cameras, tuple(self._tasks))
        self._instruction = ""
        self._ticks = self._streak = 0
        self._success = self._closed = False
        self._done = True

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    @property
    def servo_hz(self) -> float:
        """Return how many setpoints the servos take in a second of simulated time."""
        return 1 / TICK_S

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
        self.scene.reset(layout, self._draw_arm(arm_rng))
        self.task = chosen
        self._ticks = self._streak = 0
        self._success = self._done = False
        observation, _ = self._observe(frames=True)
        return observation

    def follow(self, setpoints: Array, *, frames: bool) -> Step:
        """Carry out setpoints (k, 6) rad, a tick each, until the episode ends."""
        for setpoint in setpoints:
            self.scene.advance(setpoint)
            self._ticks += 1
            if self._ticks % TICKS_A_STEP == 0:
                self.scene.refresh()
                self._judge()
            if self._done:
                break
        if self._ticks % TICKS_A_STEP:
            self.scene.refresh()
        observation, timing_ns = self._observe(frames=frames)
        return Step(
            observation=observation,
            reward=float(self._success and len(setpoints) > 0),
            success=self._success,
            terminated=self._success,
            truncated=self._done and not self._success,
            timing_ns=timing_ns,
        )

    def lower(self, action: TextAction | SkillCall, at: Array) -> tuple[Array, tuple[Intervention, ...]]:
        """Return the joint targets (6,) rad that carry out a verb or skill from at (6,) rad, or at and why not."""
        words = " ".join((action.text if isinstance(action, TextAction) else action.name).lower().split())
        if words == "stop":
            return self.scene.arm_rad, ()
        if words == "home":
            return at + np.clip(HOME_RAD - at, -HOMING_STEP_RAD, HOMING_STEP_RAD), ()
        if words not in VERBS:
            return at, (Intervention("unknown_verb", words[:MAX_WORD], 0.0, 0.0),)
        try:
            return np.clip(lower(words, at, self._kinematics), self.scene.low_rad, self.scene.high_rad), ()
        except OutOfReachError:
            return at, (Intervention("workspace", words, 0.0, 0.0),)

    def tool_position(self, values: Array) -> Array:
        """Return where the fingertips are, (3,) m, with the joints at values (6,) rad."""
        return self._kinematics.tip(values)

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
        """Do nothing: time stands still between ticks, so nothing moves that a SafeRobot does not move."""

    def close(self) -> None:
        """Let go of the renderer."""
        self._done = self._closed = True
        self._cameras.close()

    def _judge(self) -> None:
        """Look whether the task is done, once a control period."""
        assert self.task is not None
        self._streak = self._streak + 1 if self.task.success(self.scene) else 0
        self._success = self._streak >= STEPS_OF_SUCCESS
        self._done = self._success or self._ticks >= (self._horizon_ticks or self.task.horizon * TICKS_A_STEP)

    def _observe(self, *, frames: bool) -> tuple[Observation, dict[str, int]]:
        """Return what is seen, and the nanoseconds that drawing took."""
        began_ns = time.monotonic_ns()
        drawn = self._cameras.draw(self.scene.data, CAMERAS) if frames and self._render else {}
        timing_ns = {"render": time.monotonic_ns() - began_ns} if drawn else {}
        state = self.scene.arm_rad.astype(np.float32)
        return Observation(self.scene.time_ns, drawn, state, self._instruction), timing_ns

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
        limits=Limits((SERVO_RAD_S,) * len(JOINTS), (SERVO_RAD_S2,) * len(JOINTS), WORKSPACE_M),
    )

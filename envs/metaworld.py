"""Meta-World's 50 tasks as one Robot: `make metaworld`, then `.venv-metaworld/bin/embodied host envs.metaworld`.

Meta-World pins an older MuJoCo than the rest needs, so it is hosted from an environment of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embodied.safety import SafeRobot
from embodied.types import Action, Camera, Field, Observation, PoseAction, RobotSpec
from envs.metaworld_scene import (
    CAMERA,
    HAND_CAMERA,
    POINTS,
    VIEWS,
    MetaWorldScene,
    View,
    Window,
    drawn_px,
    expert_for,
)
from envs.metaworld_tasks import Words, all_tasks, sentence
from envs.sizes import require_size
from envs.suite_robot import Suite, SuiteRobot
from envs.suites import require_suite

if TYPE_CHECKING:
    from embodied.types import Policy

VERSION = "3.1.1"
CONTROL_HZ = 80.0
HORIZON = 500
SIZES_PX = (16, 480)
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
    size: int = 128,
    words: Words = "plain",
    view: View = "whole",
    hand: int = 0,
    effects: bool = False,
    render: bool = True,
) -> SafeRobot[SuiteRobot[MetaWorldScene]]:
    """Return Meta-World's robot with square frames of the given size.

    words says which sentence asks for the task: see envs.metaworld_tasks.sentence. view is what of the camera's picture
    is drawn: see envs.metaworld_scene.VIEWS. With hand there is a second frame, so many pixels of the same picture
    around the hand, at twice as many a metre. effects draws as LeRobot does, with shadows, reflections and
    multisampling, at several times the cost. With render off no frame is drawn. Raise SuiteMissingError where it is not
    installed, InvalidSizeError for frames too small or too large to draw.
    """
    require_size(size, *SIZES_PX)
    if hand:
        require_size(hand, SIZES_PX[0], drawn_px(size, view, hand), of="hand")
    require_suite("envs.metaworld", "metaworld", VERSION, environment="metaworld")
    return SafeRobot(SuiteRobot(suite(size, words, view, hand=hand, effects=effects), render=render))


def suite(size: int, words: Words, view: View, *, hand: int = 0, effects: bool) -> Suite[MetaWorldScene]:
    """Return what Meta-World is, its 50 tasks and their tiers, whether it is installed or not."""
    tasks = all_tasks()
    cameras, kinds = [Camera(CAMERA, size, size, VIEWS[view].fovy_deg)], {"position": 3, "box": 4}
    if hand:
        kinds[f"box_{HAND_CAMERA}"] = 4
        side = hand / drawn_px(size, view, hand)
        cameras.append(Camera(HAND_CAMERA, hand, hand, Window((1 - side) / 2, (1 - side) / 2, side).fovy_deg))
    return Suite(
        spec=RobotSpec(
            name="metaworld",
            control_hz=CONTROL_HZ,
            cameras=tuple(cameras),
            state=STATE,
            action=ACTION,
            tasks=tuple(tasks),
            tiers=tuple(task.tier for task in tasks.values()),
        ),
        make_scene=partial(MetaWorldScene, size=size, view=view, hand=hand, effects=effects),
        sentence=lambda task, seed: sentence(tasks, task, words, seed),
        horizon=HORIZON,
        label_sizes={f"{name}_{kind}": n for name in POINTS for kind, n in kinds.items()},
    )


def expert(robot: SafeRobot[SuiteRobot[MetaWorldScene]] | SuiteRobot[MetaWorldScene]) -> Policy:
    """Return Meta-World's own scripted experts for the robot; they see the simulator's truth."""
    return Expert(robot.body if isinstance(robot, SafeRobot) else robot)


class Expert:
    """Meta-World's scripted expert of the task at hand: looks at the simulator's truth, never at the frames."""

    def __init__(self, robot: SuiteRobot[MetaWorldScene]) -> None:
        self._robot = robot

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; the robot knows of which task."""
        self._script = expert_for(self._robot.task)

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return one PoseAction, (4,) within its range, which the experts themselves leave."""
        answer = np.asarray(self._script.get_action(self._robot.scene.seen), np.float32)
        return [PoseAction(np.clip(answer, -1.0, 1.0))]

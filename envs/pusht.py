"""PushT as a Robot: `make gym`, then `.venv-gym/bin/embodied host envs.pusht`.

gym-pusht pins an older pymunk and another OpenCV than the rest has, so it is hosted from an environment of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from embodied.safety import SafeRobot
from embodied.types import Camera, Field, RobotSpec
from envs.pusht_scene import CAMERA, PushTScene
from envs.pusht_tee import BOARD
from envs.sizes import require_size
from envs.suite_robot import Suite, SuiteRobot
from envs.suites import require_suite

if TYPE_CHECKING:
    from embodied.types import Policy

VERSION = "0.1.8"
CONTROL_HZ = 10.0
HORIZON = 300
SIZES_PX = (16, 512)
NO_FOVY_DEG = 0.0  # what is flat is not seen at an angle
TASK = "push_t"
SENTENCE = "push the grey T onto the green T"
# Pixels of the board, whatever a frame's size. The pusher swings some way past what it is told.
STATE = tuple(Field(f"pusher_{axis}", "px", -64.0, BOARD + 64.0) for axis in "xy")
ACTION = tuple(Field(f"pusher_{axis}", "px", 0.0, BOARD) for axis in "xy")
LABEL_SIZES = {"block_position": 2, "block_direction": 2, "block_box": 4}


def make(size: int = 96, render: bool = True) -> SafeRobot[SuiteRobot[PushTScene]]:
    """Return PushT's robot with square frames of the given size; with render off no frame is drawn.

    Raise SuiteMissingError where gym-pusht is not installed, InvalidSizeError for frames too small or too large.
    """
    require_size(size, *SIZES_PX)
    require_suite("envs.pusht", "gym-pusht", VERSION, environment="gym")
    camera = Camera(CAMERA, size, size, NO_FOVY_DEG)
    suite = Suite(
        spec=RobotSpec("pusht", CONTROL_HZ, (camera,), STATE, ACTION, tasks=(TASK,)),
        make_scene=partial(PushTScene, size=size),
        sentence=lambda task, seed: SENTENCE,
        horizon=HORIZON,
        label_sizes=LABEL_SIZES,
    )
    return SafeRobot(SuiteRobot(suite, render=render))


def expert(robot: SafeRobot[SuiteRobot[PushTScene]] | SuiteRobot[PushTScene]) -> Policy:
    """Return the scripted expert for the robot; it sees the simulator's truth."""
    from envs.pusht_expert import Expert  # demonstrations need it, rollouts do not

    return Expert(robot.body if isinstance(robot, SafeRobot) else robot)

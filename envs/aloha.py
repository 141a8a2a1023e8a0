"""ALOHA's two arms as a Robot: `make gym`, then `.venv-gym/bin/embodied host envs.aloha`.

gym-aloha pins an older MuJoCo than the rest has, so it is hosted from an environment of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from embodied.safety import SafeRobot
from embodied.types import Camera, Field, RobotSpec
from envs.aloha_arm import JOINTS, SIDES
from envs.aloha_scene import CAMERA, AlohaScene
from envs.sizes import require_size
from envs.suite_robot import Suite, SuiteRobot
from envs.suites import require_suite

if TYPE_CHECKING:
    from embodied.types import Policy

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
# What holds a joint or a finger gives: a blow takes it some way past what it can be told.
BEYOND_RAD, BEYOND_OPEN = 0.1, 1.0


def _fields(beyond_rad: float = 0.0, beyond_open: float = 0.0) -> tuple[Field, ...]:
    """Return both arms' numbers, left first, with ranges so much wider than what the actuators take."""
    return tuple(
        field
        for side in SIDES
        for field in (
            *(Field(f"{side}_{name}", "rad", low - beyond_rad, high + beyond_rad) for name, (low, high) in _ARM),
            Field(f"{side}_gripper", "", 0.0 - beyond_open, 1.0 + beyond_open),  # 0 shut, 1 open
        )
    )


STATE, ACTION = _fields(BEYOND_RAD, BEYOND_OPEN), _fields()
LABEL_SIZES = {f"{name}_{kind}": n for name in ("target", "goal") for kind, n in (("position", 3), ("box", 4))}


def make(size: int = 128, effects: bool = False, render: bool = True) -> SafeRobot[SuiteRobot[AlohaScene]]:
    """Return ALOHA's robot with square frames of the given size.

    effects draws as gym-aloha does, with shadows, reflections and multisampling, at several times the cost. With render
    off no frame is drawn. Raise SuiteMissingError where gym-aloha is not installed, InvalidSizeError for frames too
    small or too large to draw.
    """
    require_size(size, *SIZES_PX)
    require_suite("envs.aloha", "gym-aloha", VERSION, environment="gym")
    camera = Camera(CAMERA, size, size, FOVY_DEG)
    suite = Suite(
        spec=RobotSpec("aloha", CONTROL_HZ, (camera,), STATE, ACTION, tasks=tuple(SENTENCES)),
        make_scene=partial(AlohaScene, size=size, effects=effects),
        sentence=lambda task, _: SENTENCES[task],
        horizon=HORIZON,
        label_sizes=LABEL_SIZES,
        most_seed=MOST_SEED,
    )
    return SafeRobot(SuiteRobot(suite, render=render))


def expert(robot: SafeRobot[SuiteRobot[AlohaScene]] | SuiteRobot[AlohaScene]) -> Policy:
    """Return the scripted expert for the robot; it sees the simulator's truth."""
    from envs.aloha_expert import Expert  # demonstrations need it, rollouts do not

    return Expert(robot.body if isinstance(robot, SafeRobot) else robot)

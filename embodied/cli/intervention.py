"""`embodied rollout --intervene`: a policy that an operator watches over, at a pace that they can follow."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from embodied.cli.teleoperation import opened_teleoperator
from embodied.rollouts import Watch
from embodied.teleop.intervening import InterveningPolicy
from embodied.teleop.paced import paced
from embodied.types import Robot


@contextlib.contextmanager
def watched(args: argparse.Namespace, robot: Robot) -> Iterator[tuple[Robot, Watch]]:
    """Yield the robot, its time passing, and what puts a policy under the operator's eyes."""
    with opened_teleoperator(args.intervene, args, robot, args.robot) as (teleoperator, console):
        yield paced(robot), lambda policy: InterveningPolicy(policy, teleoperator, console)

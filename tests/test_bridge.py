"""The robot bridge: a remote robot is the local one, and what goes wrong is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dummy_robot import DummyRobot
from remote import remote_robot
from robot_contract import RobotContract

from embodied.types import Robot


class TestLocalDummy(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[Robot]:
        robot = DummyRobot()
        yield robot
        robot.close()


class TestRemoteDummy(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[Robot]:
        with remote_robot(DummyRobot) as robot:
            yield robot

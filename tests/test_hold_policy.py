"""The hold policy: it stays where the robot is, whichever robot that is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import EmbodiedError, SpecMismatchError
from embodied.types import Policy, PoseAction, RobotSpec
from policies.hold import HoldPolicy, make
from tests.dummy_robot import DummyRobot
from tests.policy_contract import PolicyContract

SPEC = DummyRobot().spec


class TestHoldPolicy(PolicyContract):
    @pytest.fixture
    def policy(self) -> Policy:
        return HoldPolicy(SPEC)

    @pytest.fixture
    def robot_spec(self) -> RobotSpec:
        return SPEC


def test_the_robot_stays_where_it_is() -> None:
    robot, policy = DummyRobot(), make()
    observation = robot.reset(3, "wait")
    policy.reset(observation.instruction, robot.spec)
    for _ in range(3):
        step = robot.step(*policy.act(observation))
        np.testing.assert_array_equal(step.observation.state[:3], observation.state[:3])
        assert step.interventions == ()


def test_a_delta_field_is_held_by_zero() -> None:
    spec = replace(SPEC, action=tuple(replace(f, name=f"d_{f.name}", mode="delta") for f in SPEC.action))
    policy = make()
    policy.reset("wait", spec)
    (action,) = policy.act(DummyRobot().reset(3, "wait"))
    assert isinstance(action, PoseAction) and not action.values.any()


def test_a_robot_that_does_not_measure_what_it_commands_is_refused() -> None:
    with pytest.raises(SpecMismatchError, match=r"action\.pan: no state field"):
        make().reset("wait", replace(SPEC, state=SPEC.state[1:]))


def test_a_checkpoint_is_refused() -> None:
    with pytest.raises(EmbodiedError, match="takes no checkpoint"):
        make(Path("somewhere"))

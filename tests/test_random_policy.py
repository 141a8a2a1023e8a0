"""The policy of chance: evenly over each field's range, and the same episode goes the same way whoever runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import EmbodiedError
from embodied.types import Policy, PoseAction, RobotSpec
from policies.random import RandomPolicy, make
from tests.dummy_robot import DummyRobot
from tests.policy_contract import PolicyContract, random_observation

SPEC = DummyRobot().spec


class TestRandomPolicy(PolicyContract):
    @pytest.fixture
    def policy(self) -> Policy:
        return RandomPolicy()

    @pytest.fixture
    def robot_spec(self) -> RobotSpec:
        return SPEC

    def test_another_robot_is_refused_with_every_difference(self, policy: Policy, robot_spec: RobotSpec) -> None:
        policy.reset(self.instruction, replace(robot_spec, name="other"))  # any robot is as good to chance

    def test_a_missing_camera_or_reordered_field_is_refused(self, policy: Policy, robot_spec: RobotSpec) -> None:
        policy.reset(self.instruction, replace(robot_spec, cameras=()))


def drawn(policy: Policy, seed: int, count: int = 1) -> np.ndarray:
    policy.reset("wait", SPEC)
    observation = random_observation(SPEC, seed, "wait")
    actions = [action for _ in range(count) for action in policy.act(observation)]
    return np.stack([a.values for a in actions if isinstance(a, PoseAction)])


def test_draws_cover_each_fields_range_evenly() -> None:
    values = drawn(make(horizon=500), 0, 4)
    low, high = (np.array([getattr(f, end) for f in SPEC.action]) for end in ("low", "high"))
    assert values.shape == (2000, 3) and (values >= np.float32(low)).all() and (values <= np.float32(high)).all()
    quarters = np.quantile((values - low) / (high - low), [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(quarters, np.array([[0.25], [0.5], [0.75]]) * np.ones(3), atol=0.05)


def test_an_episode_has_its_own_draws_whoever_runs_it_and_whatever_was_run_before() -> None:
    one, other = make(), make()
    drawn(other, 9)
    np.testing.assert_array_equal(drawn(one, 1, 3), drawn(other, 1, 3))
    assert (drawn(one, 1) != drawn(one, 2)).all() and (drawn(one, 1) != drawn(make(seed=1), 1)).all()


def test_a_checkpoint_or_a_horizon_of_nothing_is_refused() -> None:
    for options in ({"checkpoint": Path("x")}, {"horizon": 0}, {"seed": -1}):
        with pytest.raises(EmbodiedError):
            make(**options)

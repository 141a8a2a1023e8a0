"""The simulated SO-101 over gRPC is the local one: the contract, and the same pixels from the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from embodied.types import PoseAction, Robot
from envs.so101 import make
from tests.remote import remote_robot
from tests.robot_contract import RobotContract, assert_same_observation, assert_same_step, holding


class TestRemoteSO101(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[Robot]:
        with remote_robot(lambda: make(size=32)) as robot:
            yield robot


@pytest.mark.parametrize("task", ["reach", "push", "pick_place", "stack"])
def test_the_same_seed_gives_the_same_episode_locally_and_over_grpc(task: str) -> None:
    local = make(size=48)
    with remote_robot(lambda: make(size=48)) as remote:
        observation = local.reset(11, task)
        assert_same_observation(remote.reset(11, task), observation)
        random = np.random.default_rng(0)
        for _ in range(4):
            near = holding(local.spec, observation) + random.normal(0, 0.1, 6).astype(np.float32)
            chunk = [PoseAction(near), PoseAction(near * np.float32(0.9))]
            step = local.step(*chunk)
            assert_same_step(remote.step(*chunk), step)
            observation = step.observation
    local.close()

"""The policy bridge: a remote policy is the local one, and every session has its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dummy_robot import DummyRobot
from policy_contract import PolicyContract
from remote import remote_policy

from embodied.types import Policy, RobotSpec
from policies.hold import HoldPolicy

SPEC = DummyRobot().spec


class TestRemoteHoldPolicy(PolicyContract):
    @pytest.fixture
    def policy(self) -> Iterator[Policy]:
        with remote_policy(lambda: HoldPolicy(SPEC)) as policy:
            yield policy

    @pytest.fixture
    def robot_spec(self) -> RobotSpec:
        return SPEC

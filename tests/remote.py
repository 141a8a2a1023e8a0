"""Real servers on loopback for tests: a robot or a policy behind gRPC, closed again in the right order."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embodied.bridge.emergency import stop_button
from embodied.bridge.lease import RobotStatus
from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.policy_server import serve_policy
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import RobotServer, serve_robot
from embodied.types import Policy, Robot


@contextmanager
def remote_robot(make_robot: Callable[[], Robot]) -> Iterator[RemoteRobot]:
    """Host the robot on a free port of loopback and yield the client of it."""
    with serve_robot(make_robot) as server, RemoteRobot(server.address) as robot:
        yield robot


@contextmanager
def remote_policy(make_policy: Callable[[], Policy]) -> Iterator[RemotePolicy]:
    """Serve policies on a free port of loopback and yield a client."""
    with serve_policy(make_policy) as server, RemotePolicy(server.address) as policy:
        yield policy


def status(server: RobotServer) -> RobotStatus:
    """Ask the robot's server who holds it, and what it counted."""
    with stop_button(server.address) as button:
        return button.status()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for what another thread or process brings about; fail if it does not."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came about"
        time.sleep(0.002)

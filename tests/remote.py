"""Real servers on loopback for tests: a robot or a policy behind gRPC, closed again in the right order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.policy_server import serve_policy
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import serve_robot
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

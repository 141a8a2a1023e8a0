"""What the wire adds to a robot's step: local against remote, in turn, the server a process of its own, as in use."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection

import numpy as np

from embodied.types import PoseAction, Robot
from tests.dummy_robot import HORIZON, DummyRobot

ACTION = PoseAction(np.zeros(3, np.float32))
WARM_UP = 50


def make_robot() -> DummyRobot:
    """Make a robot with two 224 x 224 cameras."""
    return DummyRobot(front=(224, 224), wrist=(224, 224))


def host(address: str, ours: Connection) -> None:
    """Serve the robot until the other end of the pipe is closed."""
    from embodied.bridge.robot_server import serve_robot

    with serve_robot(make_robot, address) as server:
        ours.send(server.address)
        ours.recv()


def time_step_ms(robot: Robot, index: int) -> float:
    """Time one step with both frames, beginning a new episode where one is over."""
    if index % HORIZON == 0:
        robot.reset(index, "wait")
    started = time.perf_counter()
    robot.step(ACTION)
    return (time.perf_counter() - started) * 1e3


def main(steps: int) -> None:
    """Time steps in turn on the local robot and on one behind each kind of wire."""
    from embodied.bridge.robot_client import RemoteRobot  # sets gRPC up, which the bare rows are to have as it comes

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        robots: dict[str, Robot] = {"local": make_robot()}
        hosts = []
        unix, tcp = f"unix:{folder}/robot", "127.0.0.1:0"
        for name, address, frames in (
            ("shared, unix", f"{unix}-1", "shared"),
            ("shared, TCP", tcp, "shared"),
            ("raw, unix", f"{unix}-2", "raw"),
            ("raw, TCP", tcp, "raw"),
        ):
            theirs, ours = context.Pipe()
            process = context.Process(target=host, args=(address, ours), daemon=True)
            process.start()
            robots[name] = RemoteRobot(theirs.recv(), frames=frames)
            hosts.append((process, theirs))
        times: dict[str, list[float]] = {name: [] for name in robots}
        for index in range(steps + WARM_UP):
            for name, robot in robots.items():
                times[name].append(time_step_ms(robot, index))
        print_table({name: np.array(values[WARM_UP:]) for name, values in times.items()})
        for robot in robots.values():
            robot.close()
        for process, theirs in hosts:
            theirs.send(None)
            process.join(10)


def print_table(times_ms: dict[str, np.ndarray]) -> None:
    """Print each robot's median and p95, and what it costs beyond the local one."""
    local = np.median(times_ms["local"])
    print(f"one step with two 224 x 224 frames (301 kB), {len(times_ms['local'])} steps, ms")
    print(f"{'':14}{'median':>9}{'p95':>9}{'median beyond local':>22}")
    for name, values in times_ms.items():
        median, p95 = np.quantile(values, [0.5, 0.95])
        print(f"{name:14}{median:9.3f}{p95:9.3f}{median - local:22.3f}")

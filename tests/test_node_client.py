"""A client written in Node, knowing only the server's reflected schema, drives the episode that Python drives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.bridge.address import PROTOCOL
from embodied.bridge.credentials import ServerCredentials
from embodied.bridge.robot_server import serve_robot
from embodied.types import Observation, PoseAction
from tests.certificates import make_folder
from tests.dummy_robot import DummyRobot

CLIENT = Path(__file__).parent / "node" / "client.mjs"
PACKAGES = Path(sys.prefix) / "node"  # where `make setup` puts them
NODE = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
SEED = 5

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="there is no node; make setup installs one"),
    pytest.mark.skipif(not (PACKAGES / "node_modules").is_dir(), reason=f"{PACKAGES} has no packages; make setup"),
]


def run_node(*arguments: str) -> dict[str, Any]:
    """Run the client and return what it printed."""
    command = [str(NODE), str(CLIENT), *arguments]
    environment = {**os.environ, "NODE_PREFIX": str(PACKAGES)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def seen(observation: Observation) -> dict[str, Any]:
    """Return an observation as the client prints it."""
    return {
        "state": [float(number) for number in observation.state],
        "frames": {name: hashlib.sha256(frame.tobytes()).hexdigest() for name, frame in observation.frames.items()},
        "instruction": observation.instruction,
    }


def local_episode(task: str) -> list[dict[str, Any]]:
    """Return what the client should see: every joint on its way up its range, two actions a step, to the end."""
    robot = DummyRobot()
    way = [[f.low + (f.high - f.low) * (part / 50) for f in robot.spec.action] for part in range(1, 51)]
    poses = iter([PoseAction(np.array(pose, np.float32)) for pose in way])
    told = [seen(robot.reset(SEED, task))]
    over = False
    while not over:
        step = robot.step(next(poses), next(poses))
        told.append({**seen(step.observation), "success": step.success, "executed": step.executed})
        over = step.terminated or step.truncated
    return told


@pytest.mark.parametrize("task", ["wait", "reach"])
def test_the_episode_is_the_local_one(task: str) -> None:
    with serve_robot(DummyRobot) as server:
        told = run_node(server.address, task, str(SEED))
    local = local_episode(task)
    assert told["steps"] == local
    assert len({tuple(step["state"][:3]) for step in local}) == len(local)  # it moved
    assert (told["protocol"], told["robot"], told["holder"]) == (PROTOCOL, "dummy", "node")
    assert "embodied.v1.RobotService" in told["services"]


def test_the_emergency_stop_stops_it_until_released() -> None:
    with serve_robot(DummyRobot) as server:
        told = run_node(server.address, "wait", str(SEED))
    assert told["stopped"] == [True, False]
    assert told["refused"] == "ERROR_CODE_STOPPED"
    assert told["again"]["state"] == told["steps"][0]["state"]
    assert told["ended"] == 0


def test_it_connects_with_a_certificate_of_embodied_certs(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    make_folder(folder)
    with serve_robot(DummyRobot, credentials=ServerCredentials.of(folder, None)) as server:
        pem = [str(folder / name) for name in ("authority.pem", "client.pem", "client.key")]
        assert run_node(server.address, "wait", str(SEED), *pem)["robot"] == "dummy"

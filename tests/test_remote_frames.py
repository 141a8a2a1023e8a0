"""Whatever way its frames cross, a remote robot is the robot and a remote policy sees what there is to see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from embodied.bridge import jpeg
from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.policy_server import serve_policy
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import serve_robot
from embodied.errors import EmbodiedError, ProtocolError
from embodied.types import Action, Observation, Policy, PoseAction, Robot, RobotSpec
from policies.hold import HoldPolicy
from tests.dummy_robot import DummyRobot
from tests.policy_contract import PolicyContract, random_observation
from tests.robot_contract import RobotContract, assert_same_observation, assert_same_step
from tests.test_bridge import wait_until

ROOT = Path(__file__).parents[1]
HOLD = PoseAction(np.zeros(3, np.float32))
SPEC = DummyRobot().spec


class OverWire(RobotContract):
    frames: str | None = None

    @pytest.fixture
    def robot(self) -> Iterator[Robot]:
        with serve_robot(DummyRobot) as server, RemoteRobot(server.address, frames=self.frames) as robot:
            yield robot


class TestSharedRobot(OverWire):
    frames = "shared"


class TestRawRobot(OverWire):
    frames = "raw"


class TestJpegRobot(OverWire):
    frames = "jpeg:80"


class PolicyOverWire(PolicyContract):
    frames: str | None = None

    @pytest.fixture
    def policy(self) -> Iterator[Policy]:
        with (
            serve_policy(lambda: HoldPolicy(SPEC)) as server,
            RemotePolicy(server.address, frames=self.frames) as policy,
        ):
            yield policy

    @pytest.fixture
    def robot_spec(self) -> RobotSpec:
        return SPEC


class TestSharedPolicy(PolicyOverWire):
    frames = "shared"


class TestRawPolicy(PolicyOverWire):
    frames = "raw"


class TestJpegPolicy(PolicyOverWire):
    frames = "jpeg"


@pytest.mark.parametrize("frames", [None, "shared", "raw"])
@pytest.mark.parametrize("kind", ["TCP", "unix"])
def test_a_whole_episode_is_the_local_one_though_every_step_is_kept(
    frames: str | None, kind: str, tmp_path: Path
) -> None:
    address = "127.0.0.1:0" if kind == "TCP" else f"unix:{tmp_path}/robot"
    with (
        serve_robot(DummyRobot, address) as server,
        RemoteRobot(server.address, frames=frames) as remote,
        serve_robot(DummyRobot) as plain,
        RemoteRobot(plain.address, frames="raw") as local,
    ):
        seen = [(remote.reset(3, "wait"), local.reset(3, "wait"))]
        steps = [(remote.step(HOLD), local.step(HOLD)) for _ in range(15)]
        for one, other in seen:
            assert_same_observation(one, other)
        for one_step, other_step in steps:
            assert_same_step(one_step, other_step)


class SeeingPolicy:
    """Keeps every observation that it is given."""

    seen: Sequence[Observation] = ()

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        type(self).seen = []

    def act(self, observation: Observation) -> Sequence[Action]:
        type(self).seen = [*self.seen, observation]
        return [HOLD]


@pytest.mark.parametrize("frames", [None, "shared", "raw", "jpeg:95"])
def test_a_policy_may_keep_what_it_saw(frames: str | None) -> None:
    sent = [random_observation(SPEC, seed, "go") for seed in range(12)]
    with serve_policy(SeeingPolicy) as server, RemotePolicy(server.address, frames=frames) as policy:
        policy.reset("go", SPEC)
        for observation in sent:
            policy.act(observation)
    for one, other in zip(SeeingPolicy.seen, sent, strict=True):
        for name, frame in other.frames.items():
            assert one.frames[name].shape == frame.shape
            if frames != "jpeg:95":
                np.testing.assert_array_equal(one.frames[name], frame, strict=True)


def test_frames_that_cannot_be_had_are_told_and_leave_no_session_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbodiedError, match="they can as raw, jpeg"):
        RemoteRobot("127.0.0.1:1", frames="png")
    with pytest.raises(EmbodiedError, match="they can as raw, jpeg"):
        RemotePolicy("127.0.0.1:1", frames="png")
    monkeypatch.setattr(jpeg, "is_installed", lambda: False)
    with serve_robot(DummyRobot) as server:
        with (
            RemoteRobot(server.address, frames="jpeg") as robot,
            pytest.raises(EmbodiedError, match="OpenCV is not installed"),
        ):
            robot.reset(0, "wait")
        with RemoteRobot(server.address) as robot:
            robot.reset(0, "wait")


def memories(pid: int) -> int:
    """Count the frames' memories that a process has mapped or holds open."""
    maps = Path(f"/proc/{pid}/maps").read_text().count("memfd:embodied")
    held = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held += "memfd:embodied" in os.readlink(descriptor)
        except FileNotFoundError:
            continue
    return maps + held


def test_the_server_lets_go_of_a_killed_clients_memory() -> None:
    code = (
        "import sys, time; from embodied.bridge.robot_client import RemoteRobot\n"
        "robot = RemoteRobot(sys.argv[1], frames='shared'); robot.reset(0, 'wait'); print('holding', flush=True)\n"
        "time.sleep(60)"
    )
    host = "from tests.dummy_robot import *; from embodied.bridge.robot_server import *\n"
    host += "server = serve_robot(DummyRobot); print(server.address, flush=True); server.wait()"
    with (
        subprocess.Popen([sys.executable, "-c", host], cwd=ROOT, stdout=-1, text=True) as server,
        subprocess.Popen(
            [sys.executable, "-c", code, server.stdout.readline().strip()], stdout=-1, text=True
        ) as client,
    ):
        assert client.stdout is not None and client.stdout.readline() == "holding\n"
        assert memories(server.pid) > 0
        client.send_signal(signal.SIGKILL)
        wait_until(lambda: memories(server.pid) == 0)
        server.kill()


def test_a_client_lives_on_with_its_frames_when_the_server_is_killed() -> None:
    host = "from tests.dummy_robot import *; from embodied.bridge.robot_server import *\n"
    host += "server = serve_robot(DummyRobot); print(server.address, flush=True); server.wait()"
    with subprocess.Popen([sys.executable, "-c", host], cwd=ROOT, stdout=-1, text=True) as server:
        assert server.stdout is not None
        with RemoteRobot(server.stdout.readline().strip(), frames="shared") as robot:
            kept = robot.reset(0, "wait")
            before = {name: frame.copy() for name, frame in kept.frames.items()}
            server.kill()
            with pytest.raises(ProtocolError):
                robot.step(HOLD)
            for name, frame in kept.frames.items():
                np.testing.assert_array_equal(frame, before[name])


def test_frames_over_the_cap_are_told_and_the_server_lives() -> None:
    large = random_observation(SPEC, 0, "go")
    vast = Observation(0, {**large.frames, "front": np.zeros((5000, 5000, 3), np.uint8)}, large.state, "go")
    with serve_policy(lambda: HoldPolicy(SPEC)) as server:
        for frames in (None, "raw", "jpeg"):
            with RemotePolicy(server.address, frames=frames) as policy:
                policy.reset("go", SPEC)
                with pytest.raises(ProtocolError, match="larger than max"):
                    policy.act(vast)
        with RemotePolicy(server.address) as policy:
            policy.reset("go", SPEC)
            policy.act(large)

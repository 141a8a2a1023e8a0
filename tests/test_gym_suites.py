"""PushT and ALOHA: what needs no simulator, what one is told where they are missing, and hosting from elsewhere.

What needs the simulators is in tests/gym_suites, which is run here in its own environment, where there is one.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.cli import main
from embodied.loop import run_episode
from embodied.types import Observation, PoseAction, RobotSpec
from envs import aloha, pusht
from envs.aloha_arm import Pose, rotation_about, rotation_vector
from envs.aloha_expert import facing
from envs.pusht_expert import detour, plan
from envs.pusht_tee import CENTRE, CORNERS, GOAL, PUSHER_RADIUS, WALLS, clearance, misplaced, place, push
from tests.other_environment import ROOT, assert_own_tests_pass
from tests.remote import wait_until

BIN = ROOT / ".venv-gym" / "bin"


def pushed(pose: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the T's pose after the pusher went straight from start to end, 1 px at a time."""
    count = round(float(np.linalg.norm(end - start)))
    way = (end - start)[None] / count
    poses, pusher = pose[None], start[None]
    for _ in range(count):
        poses, pusher = push(poses, pusher, way), pusher + way
    return poses[0]


def test_a_push_through_the_centre_of_gravity_does_not_turn_the_t():
    pose = np.array([250.0, 200.0, 0.0])
    start = place(CENTRE - np.array([100.0, 0.0]), pose)
    end = start + np.array([120.0, 0.0])
    after = pushed(pose, start, end)
    assert after[2] == pytest.approx(0.0, abs=1e-9) and after[1] == pytest.approx(200.0)
    assert clearance(end, after) == pytest.approx(PUSHER_RADIUS, abs=1e-6)


def test_a_push_beside_it_turns_the_t_and_one_that_misses_leaves_it():
    pose = np.array([250.0, 200.0, 0.0])
    assert pushed(pose, np.array([300.0, 160.0]), np.array([300.0, 220.0]))[2] > 0.2
    assert pushed(pose, np.array([200.0, 160.0]), np.array([200.0, 220.0]))[2] < -0.2
    np.testing.assert_array_equal(pushed(pose, np.array([20.0, 20.0]), np.array([20.0, 90.0])), pose)


def test_the_walls_keep_the_t_on_the_board():
    pose = np.array([375.0, 250.0, -np.pi / 2])  # its stem points at the wall, 9 px away
    after = pushed(pose, np.array([350.0, 280.0]), np.array([420.0, 280.0]))
    assert WALLS[1] - 5.0 < place(CORNERS, after).max() < WALLS[1] + 1.0


def test_only_at_its_goal_is_the_t_not_misplaced():
    assert misplaced(GOAL) == pytest.approx(0.0, abs=1e-9)
    assert misplaced(GOAL + np.array([0.0, 0.0, 2 * np.pi])) == pytest.approx(0.0, abs=1e-9)
    off = np.random.default_rng(0).uniform(-1, 1, (50, 3)) * [5.0, 5.0, 0.1]
    assert (misplaced(GOAL + off) > 0.1).all()


def test_planned_pushes_bring_the_t_to_its_goal():
    pose, pusher = np.array([190.0, 300.0, 2.0]), np.array([60.0, 60.0])
    for _ in range(6):
        chosen = plan(pusher, pose)
        pose, pusher = pushed(pose, chosen.start, chosen.end), chosen.end
        if misplaced(pose) < 1.5:
            break
    assert misplaced(pose) < 1.5


def test_the_way_round_keeps_clear_of_the_t_and_where_there_is_none_says_so():
    pose = np.array([250.0, 250.0, 0.3])
    start, end = place(np.array([(0.0, -40.0), (-45.0, 60.0)]), pose)
    way = [start, *detour(start, end, pose)]
    assert len(way) > 2
    np.testing.assert_array_equal(way[-1], end)
    for one, other in itertools.pairwise(way):
        assert clearance(one + np.linspace(0, 1, 30)[:, None] * (other - one), pose).min() > PUSHER_RADIUS
    assert detour(start, place(np.array([0.0, 15.0]), pose), pose) == []


def test_a_pose_undoes_its_inverse_and_tells_the_way_to_another():
    rng = np.random.default_rng(0)
    one, other = (Pose(rng.normal(size=3), rotation_about(rng.normal(size=3))) for _ in range(2))
    same = one.of(one.inverse().of(other))
    np.testing.assert_allclose([*same.position_m, *same.rotation.ravel()], [*other.position_m, *other.rotation.ravel()])
    shift, turn = one.to(other)
    np.testing.assert_allclose(one.position_m + shift, other.position_m)
    np.testing.assert_allclose(rotation_about(turn) @ one.rotation, other.rotation, atol=1e-12)
    vector = np.array([0.1, -0.2, 0.3])
    np.testing.assert_allclose(rotation_vector(rotation_about(vector)), vector)


def test_the_tools_face_each_other_and_a_roll_turns_the_fingers_upright():
    left, right = facing("left"), facing("right")
    np.testing.assert_allclose(left[:, 0], -right[:, 0])
    np.testing.assert_allclose(np.abs(facing("left", roll_rad=np.pi / 2)[:, 1]), [0, 0, 1], atol=1e-12)
    for tool in (left, right, facing("right", 1.0)):
        np.testing.assert_allclose(tool @ tool.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(tool) == pytest.approx(1.0)


def test_the_states_have_no_number_of_an_object():
    assert [f.name for f in pusht.STATE] == [f.name for f in pusht.ACTION] == ["pusher_x", "pusher_y"]
    names = [f.name for f in aloha.STATE]
    assert names == [f.name for f in aloha.ACTION]
    assert len(names) == 14 and names[6] == "left_gripper" and names[7] == "right_waist"
    assert all(f.mode == "absolute" for f in (*pusht.ACTION, *aloha.ACTION))


@pytest.mark.parametrize(("robot", "version"), [("envs.pusht", "gym-pusht 0.1.8"), ("envs.aloha", "gym-aloha 0.1.5")])
def test_where_a_suite_is_missing_hosting_says_how_to_get_it(robot, version, capsys):
    assert main(["host", robot, "--address", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err == (
        f"error: {robot} needs {version}, and here is none: run `make gym`, then host it with "
        f"`.venv-gym/bin/embodied host {robot}`\n"
    )


@pytest.mark.parametrize("name", ["pusht", "aloha"])
def test_another_version_of_a_suite_is_refused(name, tmp_path, monkeypatch, capsys):
    about = tmp_path / f"gym_{name}-0.0.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gym-{name}\nVersion: 0.0.9\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["collect", "--robot", f"envs.{name}", "--episodes", "1", "--out", str(tmp_path / "data")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "and here is 0.0.9" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("robot", ["envs.pusht", "envs.aloha"])
@pytest.mark.parametrize(("option", "told"), [("size=8", "size is 8"), ("colour=1", "no option")])
def test_a_wrong_option_is_one_line(robot, option, told, capsys):
    assert main(["host", robot, "--address", "127.0.0.1:0", "--option", option]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


@contextmanager
def hosted(robot: str, folder: Path) -> Iterator[RemoteRobot]:
    """Host a robot from the suites' own environment and yield the client in this one."""
    socket = folder / "robot.sock"
    command = [str(BIN / "embodied"), "host", robot, "--address", f"unix:{socket}", "--option", "size=32"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(socket.exists, 60.0)
            with RemoteRobot(f"unix:{socket}") as client:
                yield client
        finally:
            process.terminate()


class Restless:
    """Moves about where it is by its seed, ten steps a chunk."""

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self.random = np.random.default_rng(0)
        self.low, self.high = np.array([(f.low, f.high) for f in spec.action], np.float32).T
        self.seen: list[bytes] = []

    def act(self, observation: Observation) -> list[PoseAction]:
        self.seen += [observation.state.tobytes(), *(frame.tobytes() for frame in observation.frames.values())]
        spread = (self.high - self.low) / 50
        near = observation.state + spread * self.random.normal(size=(10, len(self.low)))
        return [PoseAction(values) for values in np.clip(near, self.low, self.high).astype(np.float32)]


@pytest.mark.parametrize(("robot", "task"), [("envs.pusht", "push_t"), ("envs.aloha", "insertion")])
def test_hosted_from_its_own_environment_it_meets_a_policy_of_this_one(robot, task, tmp_path):
    if not BIN.exists():
        pytest.skip("no gym-pusht or gym-aloha here: `make gym`")
    with hosted(robot, tmp_path) as client:
        seen = []
        for _ in range(2):
            policy = Restless()
            episode = run_episode(client, policy, task=task, seed=1_000_000, max_steps=30)
            assert episode.steps == 30 and len(episode.cycles) == 3
            seen.append(policy.seen)
    assert seen[0] == seen[1] and len(set(seen[0])) == 6


def test_in_their_own_environment_their_own_tests_pass():
    if not BIN.exists():
        pytest.skip("no gym-pusht or gym-aloha here: `make gym`")
    assert_own_tests_pass(BIN, "tests/gym_suites")

"""Meta-World's tasks have their sentences; where it is missing one is told so; and it is hosted from elsewhere.

What needs Meta-World itself is in tests/metaworld, which is run here in its own environment, where there is one.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.cli import main
from embodied.failures import GOAL, HAND, TARGET
from embodied.loop import run_episode
from embodied.types import Observation, PoseAction, RobotSpec
from envs.metaworld import ACTION, STATE, suite
from envs.metaworld_scene import POINTS
from envs.metaworld_tasks import all_tasks, sentence
from tests.other_environment import ROOT, assert_own_tests_pass
from tests.remote import wait_until

BIN = ROOT / ".venv-metaworld" / "bin"
TASKS = all_tasks()


def test_there_are_50_tasks_in_the_published_tiers():
    assert Counter(task.tier for task in TASKS.values()) == {"easy": 28, "medium": 11, "hard": 6, "very_hard": 5}


def test_the_robot_tells_its_tiers_and_its_failures_can_be_sorted_by_cause():
    spec = suite(32, "plain", "whole", effects=False).spec
    assert dict(zip(spec.tasks, spec.tiers, strict=True)) == {task.name: task.tier for task in TASKS.values()}
    assert set(HAND) <= {field.name for field in spec.state}
    assert {TARGET, GOAL} <= {f"{name}_position" for name in POINTS}


def test_with_a_frame_around_the_hand_there_is_a_second_camera_of_a_smaller_angle_and_boxes_in_it():
    alone, both = (suite(144, "plain", "table", hand=hand, effects=False) for hand in (0, 72))
    table, hand = both.spec.cameras
    assert alone.spec.cameras == (table,) and (hand.name, hand.width, hand.height) == ("corner2_hand", 72, 72)
    assert 5 < hand.fovy_deg < table.fovy_deg / 3
    added = {name: size for name, size in both.label_sizes.items() if name not in alone.label_sizes}
    assert added == {f"{name}_box_corner2_hand": 4 for name in POINTS}


def test_no_sentence_asks_for_two_tasks_and_none_for_evaluation_is_demonstrated():
    said = Counter(words for task in TASKS.values() for words in (*task.say, *task.reword))
    assert [words for words, times in said.items() if times > 1] == []
    assert all(len(task.say) == 5 and len(task.reword) == 2 for task in TASKS.values())
    assert max(map(len, said)) <= 70  # a policy reads a few dozen tokens


def test_the_words_of_an_episode_are_those_asked_for():
    task = TASKS["push-v3"]
    said = {words: [sentence(TASKS, "push-v3", words, seed) for seed in range(60)] for words in ("varied", "reworded")}
    assert set(said["varied"]) == set(task.say) and set(said["reworded"]) == set(task.reword)
    assert said["varied"] == [sentence(TASKS, "push-v3", "varied", seed) for seed in range(60)]
    assert {sentence(TASKS, "push-v3", "plain", seed) for seed in range(9)} == {task.say[0]}
    others = [sentence(TASKS, "push-v3", "misdirected", seed) for seed in range(60)]
    assert len(set(others)) > 20 and task.say[0] not in others
    assert set(others) <= {other.say[0] for other in TASKS.values()}


def test_the_state_has_four_numbers_and_none_of_an_object():
    assert [f.name for f in STATE] == ["hand_x", "hand_y", "hand_z", "gripper_opening"]
    assert [f.name for f in ACTION] == ["move_x", "move_y", "move_z", "gripper_effort"]
    assert all((f.low, f.high, f.mode) == (-1.0, 1.0, "delta") for f in ACTION)


def test_where_metaworld_is_missing_hosting_says_how_to_get_it(capsys):
    assert main(["host", "envs.metaworld", "--address", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err == (
        "error: envs.metaworld needs metaworld 3.1.1, and here is none: run `make metaworld`, then host it with "
        "`.venv-metaworld/bin/embodied host envs.metaworld`\n"
    )


def test_another_version_of_metaworld_is_refused(tmp_path, monkeypatch, capsys):
    about = tmp_path / "metaworld-3.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: metaworld\nVersion: 3.0.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["collect", "--robot", "envs.metaworld", "--episodes", "1", "--out", str(tmp_path / "data")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "needs metaworld 3.1.1, and here is 3.0.0" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("size=8", "size is 8"),
        ("hand=8", "hand is 8"),
        ("hand=900", "hand is 900"),
        ("words=loud", "takes one of ['plain', 'varied',"),
        ("colour=1", "no option"),
    ],
)
def test_a_wrong_option_is_one_line(option, told, capsys):
    assert main(["host", "envs.metaworld", "--address", "127.0.0.1:0", "--option", option]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteRobot]:
    """Host Meta-World from its own environment and yield the client in this one."""
    if not BIN.exists():
        pytest.skip("no Meta-World here: `make metaworld`")
    socket = tmp_path_factory.mktemp("host") / "robot.sock"
    command = [str(BIN / "embodied"), "host", "envs.metaworld", "--address", f"unix:{socket}", "--option", "size=32"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(socket.exists, 60.0)
            with RemoteRobot(f"unix:{socket}") as robot:
                yield robot
        finally:
            process.terminate()


class Restless:
    """Moves at random by its seed, ten steps a chunk."""

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self.random = np.random.default_rng(0)
        self.seen: list[bytes] = []

    def act(self, observation: Observation) -> list[PoseAction]:
        self.seen += [observation.state.tobytes(), observation.frames["corner2"].tobytes()]
        return [PoseAction(values) for values in self.random.uniform(-1, 1, (10, 4)).astype(np.float32)]


def test_hosted_from_its_own_environment_it_meets_a_policy_of_this_one(hosted):
    seen = []
    for _ in range(2):
        policy = Restless()
        episode = run_episode(hosted, policy, task="push-v3", seed=1_000_000, max_steps=40)
        assert episode.instruction == TASKS["push-v3"].say[0] and episode.steps == 40 and len(episode.cycles) == 4
        seen.append(policy.seen)
    assert seen[0] == seen[1] and len(set(seen[0])) == 8


def test_in_its_own_environment_its_own_tests_pass():
    if not BIN.exists():
        pytest.skip("no Meta-World here: `make metaworld`")
    assert_own_tests_pass(BIN, "tests/metaworld")

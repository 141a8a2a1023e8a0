"""The README tells the truth: its commands parse, its tree is there, its examples run as they stand."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import envs.tasks
from embodied.cli import VERBS
from embodied.loop import run_episode
from embodied.safety import safe
from envs.expert import Expert
from envs.so101 import make
from tests.bench.experts import play
from tests.robot_contract import RobotContract

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
PROMPT = re.compile(r"^(?:\w+\$ +)?(embodied .*)$")  # as in "robot$  embodied host ..."
LINES = [PROMPT.match(line) for page in PAGES for line in page.replace("\\\n", " ").splitlines()]
COMMANDS = sorted({line[1] for line in LINES if line})


def example(name: str, folder: Path) -> Path:
    """Write the example whose first line names the file, on whatever page it is, into folder."""
    (code,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", "\n".join(PAGES), re.DOTALL)
    path = folder / Path(name).name
    path.write_text(code, encoding="utf-8")
    return path


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_robot", "my_policy", "envs.tasks.topple", "envs.tasks.lift"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_verb_and_its_flags(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (arm,) = re.findall(r"`arm.json`:\n\n```\n({.*})\n```", "\n".join(PAGES))
    (tmp_path / "arm.json").write_text(arm, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    verb, *arguments = shlex.split(command, comments=True)[1:]
    assert verb in VERBS
    parser = argparse.ArgumentParser()
    importlib.import_module(f"embodied.cli.{verb}").add_arguments(parser)
    parser.parse_args(arguments)


def test_every_name_of_the_tree_is_in_the_repository() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    folder = ""
    for line in tree.strip().splitlines():
        names = re.findall(r"[\w./]+(?:\.py|/)", line.split("  ")[0] if not line.startswith(" ") else line[2:31])
        assert names, line
        folder = "" if not line.startswith(" ") else folder
        for name in names:
            assert (ROOT / folder / name).exists(), f"{folder}{name}"
        folder = folder or names[0]


def test_every_module_of_the_core_rooms_is_in_the_tree() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    told = set(re.findall(r"\w+\.py", tree))
    for room in ("embodied", "envs", "policies"):
        files = {path.name for path in (ROOT / room).glob("*.py") if not path.name.startswith("__")}
        small = {"boxes.py", "cameras.py", "gl.py"}  # parts of scene.py and so101.py
        assert files - told <= small, f"{room}: {sorted(files - told)}"


def test_a_task_is_one_file(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example("envs/tasks/topple.py", examples)
    monkeypatch.setattr(envs.tasks, "__path__", [*envs.tasks.__path__, str(examples)])
    robot = make(render=False)
    assert "topple" in robot.spec.tasks
    assert "knock" in robot.reset(3, "topple").instruction
    assert not robot.body.task.success(robot.body.scene)
    x, y, z = robot.body.scene.position("cube_0")
    robot.body.scene.place("cube_0", (x, y + 0.06, z), 0.0)
    assert robot.body.task.success(robot.body.scene)


def test_the_task_that_the_page_on_finetuning_adds_is_done_by_its_own_expert(
    examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example("envs/tasks/lift.py", examples)
    monkeypatch.setattr(envs.tasks, "__path__", [*envs.tasks.__path__, str(examples)])
    robot = make(render=False)
    for disturbed in (False, True):
        played = [play(robot, Expert(robot.body), "lift", seed, disturbed=disturbed) for seed in range(10)]
        assert sum(p.success for p in played) >= 9
    assert re.fullmatch(r"raise the \w+ cube", robot.reset(0, "lift").instruction)
    assert not robot.body.task.success(robot.body.scene)


class TestMyRobot(RobotContract):
    @pytest.fixture
    def robot(self, examples: Path):
        example("my_robot.py", examples)
        return safe(importlib.import_module("my_robot").make())


def test_a_policy_is_one_file(examples: Path) -> None:
    for name in ("my_robot.py", "my_policy.py"):
        example(name, examples)
    robot, policy = (importlib.import_module(name).make() for name in ("my_robot", "my_policy"))
    episode = run_episode(safe(robot), policy, task="centre", seed=5)
    assert episode.success and episode.steps == 40
    np.testing.assert_allclose(robot.position, 0.0)

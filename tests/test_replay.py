"""A recorded episode played again: the same in simulation, approached where a robot stands elsewhere, and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_world import ToyRobot

from embodied.approach import WHOLE_RANGE_S
from embodied.cli import main
from embodied.errors import EmbodiedError
from embodied.loop import run_episode
from embodied.parity import Motion, compare
from embodied.recording.format import DatasetError
from embodied.recording.reader import DatasetReader
from embodied.recording.rollout import RolloutRecorder, join
from embodied.replay import Script, play
from embodied.safety import SafeRobot
from embodied.types import Field, Observation, PoseAction, Step
from tests.faults.processes import host
from tests.live_robot import SPEC, sweep

TOY = ("--robot", "tests.toy_world", "--option", "size=16")
FIELDS = (Field("pan", "rad", -1.0, 1.0), Field("still", "rad", -1.0, 1.0))


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory) -> Path:
    """Undisturbed demonstrations of the toy's expert."""
    out = tmp_path_factory.mktemp("replay") / "d"
    collect = ["collect", *TOY, "--task", "reach", "--episodes", "3", "--perturb", "0", "--workers", "1"]
    assert main([*collect, "--out", str(out)]) == 0
    return out


def replay(dataset: Path, out: Path, *extra: str, episode: int = 1) -> int:
    return main(["replay", "--dataset", str(dataset), "--episode", str(episode), *extra, "--out", str(out)])


def content(out: Path) -> dict:
    return json.loads((out / "replay.json").read_text())


def test_in_simulation_everything_is_as_it_was(demonstrations, tmp_path, capsys):
    assert replay(demonstrations, tmp_path / "r", *TOY) == 0
    assert "actions played: success" in capsys.readouterr().out
    recorded, told = DatasetReader(demonstrations), content(tmp_path / "r")
    of = recorded.episodes[1]
    assert np.array_equal(np.float32(told["measured"]["state"][:-1]), recorded.state[of.start : of.stop])
    assert told["played"] == told["actions"] == of.stop - of.start and told["approach_s"] == 0.0
    assert (told["success"], told["recorded_success"], told["seed"]) == (True, True, 1)
    again = DatasetReader(tmp_path / "r" / told["recording"])
    assert np.array_equal(again.state, recorded.state[of.start : of.stop])
    assert [bytes(again.jpeg("front", i)) for i in range(len(again))] == [
        bytes(recorded.jpeg("front", of.start + i)) for i in range(len(again))
    ]


def test_a_live_robot_is_played_on_over_grpc_and_compared_on_its_own_clock(tmp_path, capsys):
    dataset = swept(tmp_path)
    with host(tmp_path, "--realtime") as live:
        assert replay(dataset, tmp_path / "live", "--robot", live.address, episode=0) == 0
    module = ("--robot", "tests.live_robot", "--option", f"evidence={tmp_path / 'evidence'}")
    assert replay(dataset, tmp_path / "lockstep", *module, episode=0) == 0
    report = tmp_path / "parity.json"
    folders = [str(tmp_path / "lockstep"), str(tmp_path / "live")]
    assert main(["replay", "--compare", *folders, "--out", str(report)]) == 0
    pan = json.loads(report.read_text())["fields"]["pan"]
    # The same servos, but for the tick that a live robot has gone when it tells where it is.
    assert abs(pan["lag_s"]) <= 0.015 and pan["rmse_without_lag"] < 0.01 and pan["deg"]["max"] < 3.0
    assert json.loads(report.read_text())["fields"]["forbidden"]["lag_s"] is None
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert "| pan" in capsys.readouterr().out
    assert main(["replay", "--compare", folders[0]]) == 0
    assert "against recorded" in capsys.readouterr().out
    assert main(["replay", "--compare", *folders, "--out", str(report)]) == 2
    assert "is there already" in capsys.readouterr().err


class Sweeper:
    def reset(self, instruction, spec) -> None:
        self.step = 0

    def act(self, observation):
        self.step += 1
        return sweep(10.0, self.step - 1, 1)


def swept(folder: Path, instruction: str | None = None) -> Path:
    """Record two seconds of the live robot, in lock step."""
    from tests.live_robot import make

    robot = make(str(folder / "recorded"))
    with RolloutRecorder(folder / "1.arrow", robot.spec, task="sweep", seed=0, instruction=instruction) as recorder:
        run_episode(robot, Sweeper(), task="sweep", seed=0, max_steps=20, observers=[recorder])
    join([folder / "1.arrow"], folder / "swept", {})
    return folder / "swept"


class Elsewhere(ToyRobot):
    """Begins where it stands, as hardware does, and goes where it is told at once."""

    def __init__(self) -> None:
        super().__init__(16, -1)
        self.commanded: list[np.ndarray] = []
        self.stops = 0

    def reset(self, seed: int, task: str) -> Observation:
        super().reset(seed, task)
        self.state = np.array([1.5, 1.0], np.float32)
        return self._observe()

    def step(self, *actions, frames: bool = True) -> Step:
        (action,) = actions
        assert isinstance(action, PoseAction)
        self.commanded.append(action.values)
        self.state = action.values
        return Step(replace(self._observe(), time_ns=len(self.commanded) * 100_000_000))

    def stop(self) -> None:
        self.stops += 1


def test_a_robot_that_stands_elsewhere_comes_slowly_to_where_the_episode_began(demonstrations):
    reader = DatasetReader(demonstrations, frames=False)
    of = reader.episodes[0]
    rows = slice(of.start, of.stop)
    script = Script("reach", 0, reader.action[rows], reader.state[rows], True, "reach")
    body = Elsewhere()

    class Watching:
        def began(self, observation):
            self.seen = [observation.state]

        def stepped(self, action, step):
            self.seen.append(action.values)

        def ended(self, success):
            pass

    watching = Watching()
    found = play(SafeRobot(body), script, [watching])
    way = np.array([[1.5, 1.0], *body.commanded[: -len(script.action)]])
    assert found.approach_s == pytest.approx((len(way) - 2) / 10, abs=0.21)
    assert (np.abs(np.diff(way, axis=0)) <= np.array([4.0, 1.5]) / (WHOLE_RANGE_S * 10) + 1e-6).all()
    assert watching.seen[0] == pytest.approx(script.state[0])
    assert np.array_equal(watching.seen[1:], script.action)
    assert body.stops == 1


def test_whatever_goes_wrong_the_robot_is_stopped(demonstrations):
    class Breaks(ToyRobot):
        stops = 0

        def step(self, *actions, frames=True):
            if self.steps == 2:
                raise RuntimeError("a cable")
            return super().step(*actions, frames=frames)

        def stop(self) -> None:
            self.stops += 1

    body = Breaks(16, -1)
    script = Script("reach", 0, np.full((5, 2), 0.5, np.float32), np.zeros((5, 2), np.float32), True, "reach")
    with pytest.raises(RuntimeError, match="a cable"):
        play(SafeRobot(body), script)
    assert body.stops == 1


def test_a_dataset_of_another_robot_is_refused_with_every_difference(demonstrations, tmp_path, capsys):
    robot = ("--robot", "tests.live_robot", "--option", f"evidence={tmp_path / 'evidence'}")
    assert replay(demonstrations, tmp_path / "r", *robot) == 2
    said = capsys.readouterr().err
    assert f"robot 'live' is not the robot that {demonstrations} was made for" in said
    assert "name: expected toy, found live" in said and "action: expected ['pan', 'gripper'] in this order" in said
    assert not (tmp_path / "r").exists()


def test_frames_of_another_size_are_no_difference_to_actions(demonstrations, tmp_path):
    assert replay(demonstrations, tmp_path / "r", "--robot", "tests.toy_world", "--option", "size=24") == 0


def test_a_disturbed_episode_says_that_its_outcome_may_differ(tmp_path, capsys):
    collect = ["collect", *TOY, "--task", "reach", "--episodes", "1", "--seed", "3", "--perturb", "1", "--workers", "1"]
    assert main([*collect, "--out", str(tmp_path / "d")]) == 0
    assert replay(tmp_path / "d", tmp_path / "r", *TOY, episode=0) == 0
    assert "something else was carried out than was recorded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--episode", "0", *TOY, "--out", "r"], "a replay needs --dataset"),
        ([], "a replay needs --dataset and --episode and --robot and --out"),
        (["--dataset", "nowhere", "--episode", "0", *TOY, "--out", "r"], "nowhere: no such dataset"),
        (["--compare", "nowhere"], "nowhere holds no replay"),
        (["--compare", "a", "b", "c"], "--compare takes two replays, or one, and got 3"),
        (["--compare", "a", "--robot", "envs.so101"], "--robot is for playing"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    assert main(["replay", *arguments]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_an_episode_that_is_not_there_is_told_with_those_that_are(demonstrations, tmp_path, capsys):
    assert replay(demonstrations, tmp_path / "r", *TOY, episode=9) == 2
    assert "has episodes 0 to 2, not 9" in capsys.readouterr().err


def test_a_replay_that_is_damaged_or_of_other_actions_is_refused(demonstrations, tmp_path, capsys):
    for name, episode in (("a", 0), ("b", 1)):
        assert replay(demonstrations, tmp_path / name, *TOY, episode=episode) == 0
    assert main(["replay", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "played other actions" in capsys.readouterr().err
    (tmp_path / "a" / "replay.json").write_text('{"spec": 3}')
    assert main(["replay", "--compare", str(tmp_path / "a")]) == 2
    assert "is not what embodied replay writes" in capsys.readouterr().err


def test_lag_and_errors_are_those_that_were_put_in():
    time_s = np.arange(0.0, 5.0, 0.1)
    first = Motion("first", time_s, np.stack([np.sin(time_s), np.zeros_like(time_s)], 1))
    later = Motion("later", time_s, np.stack([np.sin(time_s - 0.08) + 0.01, np.full_like(time_s, 0.02)], 1))
    pan, still = compare(first, later, FIELDS)
    assert pan.lag_s == pytest.approx(0.08, abs=0.011) and pan.rmse_without_lag == pytest.approx(0.01, rel=0.3)
    assert pan.rmse == pytest.approx(np.sqrt(0.08**2 / 2 + 0.01**2), rel=0.15)
    assert still.lag_s is None and (still.rmse, still.p95, still.max) == pytest.approx((0.02,) * 3)
    assert still.to_dict()["deg"]["max"] == pytest.approx(np.degrees(0.02))


def test_the_recording_of_a_replay_is_a_dataset_like_any(demonstrations, tmp_path):
    assert replay(demonstrations, tmp_path / "r", *TOY) == 0
    assert replay(tmp_path / "r" / "recording", tmp_path / "again", *TOY, episode=0) == 0
    assert content(tmp_path / "again")["measured"] == content(tmp_path / "r")["measured"]
    with pytest.raises(DatasetError):
        DatasetReader(tmp_path / "r")
    assert SPEC.name == "live"


def test_a_robot_that_ends_its_episode_on_the_way_to_the_beginning_is_told_as_that(demonstrations):
    far = np.array([[1.9, 1.4]], np.float32)  # the toy's episodes have 30 steps, and the way there more
    with pytest.raises(EmbodiedError, match="toy ended the episode on the slow way"):
        play(SafeRobot(ToyRobot(16, -1)), Script("reach", 0, far, far, True, "reach"))


def test_actions_that_a_short_episode_leaves_out_are_warned_of_and_the_words_are_those_recorded(tmp_path, capsys):
    dataset = swept(tmp_path, instruction="wave to them")
    module = ("--robot", "tests.live_robot", "--option", f"evidence={tmp_path / 'evidence'}")
    assert replay(dataset, tmp_path / "short", *module, "--option", "horizon_s=1", episode=0) == 0
    assert "warning: 10 actions were not carried out" in capsys.readouterr().err
    assert content(tmp_path / "short")["played"] == 10
    assert DatasetReader(tmp_path / "short" / "recording").instructions == ("wave to them",)
    assert replay(dataset, tmp_path / "whole", *module, episode=0) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_replay_without_its_actions_is_refused(demonstrations, tmp_path, capsys):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        assert replay(demonstrations, folder, *TOY) == 0
    told = content(folders[1])
    del told["action"]
    (folders[1] / "replay.json").write_text(json.dumps(told))
    assert main(["replay", "--compare", *map(str, folders)]) == 2
    assert "is not what embodied replay writes: 'action'" in capsys.readouterr().err

"""An operator takes over from a policy, corrects, and hands back; rows, counts and report say which was whose."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from toy_world import ToyExpert, ToyRobot

from embodied.approach import WHOLE_RANGE_S
from embodied.cli import main
from embodied.comparison import Pairs, compare_reports
from embodied.loop import FIRST_EVALUATION_SEED, Episode, run_episode
from embodied.recording.reader import DatasetReader
from embodied.recording.rollout import RolloutRecorder, join
from embodied.report import build_report
from embodied.safety import SafeRobot
from embodied.summary import summarise
from embodied.teleop.console import INTERVENTION, RECORDING, Console, buttons_legend
from embodied.teleop.gamepad import BUTTONS
from embodied.teleop.intervening import InterveningPolicy, OperatorStoppedError
from embodied.teleop.keyboard import KeyboardTeleoperator
from embodied.teleop.leader import LeaderTeleoperator
from embodied.teleop.paced import PacedRobot
from embodied.types import Action, Observation, PoseAction, RobotSpec
from tests.operator_at import ESC, operator_at
from tests.test_collect_teleop import TOY
from tests.test_teleop import Hand, Typed

CHUNK = 8


class Chunks:
    """A policy whose chunks say when they were made, so that one from before a takeover is recognised after it."""

    def __init__(self) -> None:
        self.resets = self.acts = 0

    @property
    def counts(self) -> dict[str, int]:
        return {"acts": self.acts}

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self.resets += 1
        self.acts = 0

    def act(self, observation: Observation) -> Sequence[Action]:
        self.acts += 1
        return [PoseAction(np.array([observation.state[0], 0.1], np.float32))] * CHUNK


def intervening(policy, typed: Typed) -> InterveningPolicy:
    console = Console(typed)  # type: ignore[arg-type]
    return InterveningPolicy(policy, KeyboardTeleoperator(console), console)


class Keys:
    """Types at chosen steps of an episode."""

    def __init__(self, typed: Typed, **at: list[str]) -> None:
        self.typed, self.at, self.step = typed, {int(k[1:]): keys for k, keys in at.items()}, 0

    def began(self, observation) -> None:
        self._type()

    def stepped(self, action, step) -> None:
        self.step += 1
        self._type()

    def ended(self, success) -> None:
        pass

    def _type(self) -> None:
        self.typed.typed += self.at.get(self.step, [])


def run(tmp_path, policy, typed: Typed, seed: int = 7, **at: list[str]) -> tuple[Episode, DatasetReader]:
    robot = SafeRobot(ToyRobot(16, -1))
    if isinstance(policy, type):
        policy = policy(robot.body)
    watched = intervening(policy, typed)
    path = tmp_path / "1.arrow"
    with RolloutRecorder(path, robot.spec, task="push", seed=seed, policy=watched) as recorder:
        observers = [recorder, Keys(typed, **at)]
        episode = run_episode(robot, watched, task="push", seed=seed, max_steps=25, observers=observers)
    join([path], tmp_path / "d", {})
    return episode, DatasetReader(tmp_path / "d")


def test_the_operator_takes_over_at_once_and_the_policy_begins_anew_after_it(tmp_path):
    policy, typed = Chunks(), Typed()
    episode, reader = run(tmp_path, policy, typed, s3=["space"], s5=["x"], s6=["x"], s9=["space"])
    assert np.flatnonzero(reader.intervention).tolist() == [3, 4, 5, 6, 7, 8]
    assert reader.action[5, 0] > reader.action[4, 0] == reader.state[3, 0]
    assert reader.action[9, 0] == pytest.approx(reader.state[9, 0])  # of what is seen now, not of its old plan
    assert policy.resets == 2
    assert episode.policy_counts == {"operator_actions": 6, "takeovers": 1, "acts": 1 + 2}
    assert "you drive; space hands back" in typed.said


def test_moving_takes_over_too(tmp_path):
    typed = Typed()
    episode, reader = run(tmp_path, Chunks(), typed, s4=["x"])
    assert np.flatnonzero(reader.intervention).tolist() == list(range(4, 25))
    assert episode.policy_counts["operator_actions"] == 21


def test_a_leader_takes_over_by_being_moved_and_the_robot_comes_to_it_slowly(tmp_path):
    typed, hand = Typed(), Hand(pan=0.0, gripper=0.2)
    robot = SafeRobot(ToyRobot(16, -1))
    console = Console(typed)  # type: ignore[arg-type]
    watched = InterveningPolicy(Chunks(), LeaderTeleoperator(hand, console), console)

    class Moves:
        steps = 0

        def began(self, observation) -> None: ...

        def stepped(self, action, step) -> None:
            self.steps += 1
            if self.steps == 4:
                hand.rad["pan"] = 1.0

        def ended(self, success) -> None: ...

    with RolloutRecorder(tmp_path / "1.arrow", robot.spec, task="push", seed=7, policy=watched) as recorder:
        run_episode(robot, watched, task="push", seed=7, max_steps=20, observers=[recorder, Moves()])
    join([tmp_path / "1.arrow"], tmp_path / "d", {})
    reader = DatasetReader(tmp_path / "d")
    assert np.flatnonzero(reader.intervention).tolist() == list(range(4, 20))
    steps = np.diff(reader.action[4:, 0])
    assert (steps > 0).all() and steps.max() <= 4.0 / (WHOLE_RANGE_S * 10.0) + 1e-6


def test_without_a_takeover_it_is_the_policy_and_nothing_else(tmp_path):
    (tmp_path / "watched").mkdir()
    episode, reader = run(tmp_path / "watched", ToyExpert, Typed(), seed=3)
    robot = SafeRobot(ToyRobot(16, -1))
    plain = run_episode(robot, ToyExpert(robot.body), task="push", seed=3, max_steps=25)
    assert (episode.steps, episode.success) == (plain.steps, plain.success) == (len(reader), True)
    assert not reader.intervention.any()
    assert not episode.policy_counts


def test_a_success_with_help_is_not_the_policys(tmp_path, capsys):
    episodes = []
    for index, keys in enumerate(({}, {"s1": ["x"], "s2": ["space"]}, {})):
        (tmp_path / str(index)).mkdir()
        episodes.append(run(tmp_path / str(index), ToyExpert, Typed(), seed=index or 3, **keys)[0])
    assert [e.success for e in episodes] == [True] * 3
    robot = {"module": None, "spec": ToyRobot(16, -1).spec.to_dict()}
    policy = {"module": "p", "privileged": False, "checkpoint_sha256": None}
    execution = {"mode": "sync", "delay_ms": 0}
    protocol = {"robot": robot, "policy": policy, "execution": execution, "instruction": None}
    report = build_report(protocol, episodes, {})
    task = report["tasks"]["push"]
    assert (task["successes"], task["helped"], task["successes_alone"]) == (3, [0, 1, 0], 2)
    assert report["mean_of_tasks"] == pytest.approx(2 / 3)
    assert "| push | 3        | 2         | 66.7%" in (said := summarise(report))
    assert "an operator helped in 1 of 3 episodes, of which 1 succeeded" in said
    unhelped = build_report(protocol, [replace(e, policy_counts={}) for e in episodes], {})
    assert compare_reports(report, unhelped) == {"push": Pairs(both=2, only_first=0, only_second=1, neither=0)}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 0
    assert "an operator helped in 1 episodes, which count as failures" in capsys.readouterr().out
    assert "helped" not in build_report(protocol, episodes[:1], {})["tasks"]["push"]


def test_a_simulator_goes_at_a_pace_that_a_person_can_follow():
    robot = PacedRobot(SafeRobot(ToyRobot(16, -1)))
    robot.reset(3, "push")
    waited = [robot.step(PoseAction(np.zeros(2, np.float32))).timing_ns["wait"] for _ in range(3)]
    assert sum(waited) > 0.2e9


def test_a_rollout_with_an_operator_marks_their_rows_and_says_so(tmp_path):
    out = tmp_path / "run"
    rollout = ["rollout", *TOY, "--policy", "policies.hold", "--task", "reach", "--episodes", 1, "--record", 1]
    with operator_at(*rollout, "--videos", 0, "--intervene", "keyboard", "--out", out) as operator:
        operator.sees("space  take over, or hand back")
        operator.type("1xx")
        operator.sees("you drive")
        operator.type(" ")
        operator.sees("the policy drives")
        operator.sees("an operator helped in 1 of 1 episodes")
        assert operator.ends() == 0 and operator.terminal_is_as_it_was
    reader = DatasetReader(out / "recording")
    assert reader.intervention.any() and not reader.intervention.all()
    report = json.loads((out / "report.json").read_text())
    assert report["protocol"]["intervene"] == "keyboard"
    assert (
        report["tasks"]["reach"]["helped"] == [1] and report["actions"]["operator_actions"] == reader.intervention.sum()
    )
    assert json.loads((out / "episodes.jsonl").read_text())["operator_actions"] == reader.intervention.sum()


def test_an_interrupted_rollout_gives_the_terminal_back(tmp_path):
    rollout = ["rollout", *TOY, "--policy", "policies.hold", "--task", "reach", "--episodes", 1, "--videos", 0]
    with operator_at(*rollout, "--intervene", "keyboard", "--out", tmp_path / "run") as operator:
        operator.sees("space  take over, or hand back")
        assert operator.is_cbreak
        operator.type("\x03")
        assert operator.ends() == 130 and operator.terminal_is_as_it_was


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--workers", "2"], "an operator watches one robot at a time"),
        (["--leader", "embodied.robots.so101"], "--leader goes with --intervene leader"),
        (["--robot", "embodied.robots.so101"], "host it in another"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, capsys, extra, complaint):
    rollout = ["rollout", *TOY, "--policy", "policies.hold", "--task", "reach", "--episodes", "1", "--out"]
    seed = ["--seed", str(FIRST_EVALUATION_SEED)]
    assert main([*rollout, str(tmp_path / "run"), "--intervene", "keyboard", *seed, *extra]) == 2
    assert complaint in capsys.readouterr().err


def protocol() -> dict:
    robot = {"module": None, "spec": ToyRobot(16, -1).spec.to_dict()}
    return {"robot": robot, "policy": {"module": "p"}, "execution": {"mode": "sync", "delay_ms": 0}}


def test_latencies_are_of_decisions_with_their_chunks_and_of_no_queued_or_operated_action(tmp_path):
    class Slow(Chunks):
        def act(self, observation: Observation) -> Sequence[Action]:
            time.sleep(0.02)
            return super().act(observation)

    episode, _ = run(tmp_path, Slow(), Typed(), s16=["space"])
    report = build_report(protocol(), [episode], {})
    assert report["control"]["cycles"] == 2 and report["latency_ms"]["act"]["p50"] >= 20
    assert not any("queued" in stage or "operator" in stage for stage in report["latency_ms"])


def test_the_operator_may_stop_a_rollout_between_episodes_too(tmp_path):
    typed = Typed()
    policy = intervening(Chunks(), typed)
    policy.reset("reach", ToyRobot(16, -1).spec)
    typed.typed = ["esc"]
    with pytest.raises(OperatorStoppedError):
        policy.reset("reach", ToyRobot(16, -1).spec)
    typed.typed = ["enter", "q"]
    with pytest.raises(OperatorStoppedError):
        policy.act(ToyRobot(16, -1).reset(0, "reach"))


def test_of_a_gamepads_buttons_those_are_told_that_are_heeded():
    (recording,), (helping,) = (buttons_legend(BUTTONS, heeded) for heeded in (RECORDING, INTERVENTION))
    assert recording == "A success   B failure   X re-record   Y mark   Back stop"
    assert helping == "Back stop   Start take over or hand back"
    assert not buttons_legend({}, RECORDING)


def test_an_operator_who_stops_a_rollout_has_what_was_recorded(tmp_path):
    rollout = ["rollout", *TOY, "--policy", "policies.hold", "--task", "reach", "--episodes", 3, "--record", 3]
    with operator_at(*rollout, "--videos", 0, "--intervene", "keyboard", "--out", tmp_path / "run") as operator:
        operator.sees("Esc/q  stop the rollout")
        operator.type("1x")
        operator.sees("you drive")
        operator.type(ESC)
        operator.sees("cut short after")
        operator.sees("error: the operator stopped the rollout")
        assert operator.ends() == 2 and operator.terminal_is_as_it_was
    assert len(DatasetReader(tmp_path / "run.partial" / "recording")) > 0

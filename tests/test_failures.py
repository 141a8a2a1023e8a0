"""A failed episode has its cause from plain rules, and a film strip shows one of each task."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from embodied.cli import main
from embodied.failures import Failure, Trace
from embodied.loop import Episode, run_episode
from embodied.recording.strip import FilmStrip
from embodied.report import build_report
from embodied.summary import summarise
from embodied.types import Field, Observation, Step
from policies.hold import HoldPolicy
from tests import toy_world
from tests.test_report import PROTOCOL, episode

STATE = tuple(Field(name, "m", -1.0, 1.0) for name in ("grip", "hand_x", "hand_y", "hand_z"))
GOAL = (0.3, 0.0, 0.0)
FAR, TABLE, HIGH, PLACED = (-0.3, 0.0, 0.2), (0.0, 0.0, 0.0), (0.0, 0.0, 0.1), (0.28, 0.0, 0.0)


def failure(*moments: tuple[tuple[float, ...], tuple[float, ...]], goal: tuple[float, ...] = GOAL) -> Failure | None:
    """Return the failure of an episode in which hand and object were at these places, one after another."""
    trace = Trace(STATE)
    for hand, target in moments:
        observation = Observation(0, {}, np.array([0.0, *hand], np.float32), "push")
        labels = {"target_position": np.array(target, np.float32), "goal_position": np.array(goal, np.float32)}
        trace.decided(Step(observation, labels=labels))
    return trace.failure()


@pytest.mark.parametrize(
    ("moments", "cause"),
    [
        ([(FAR, TABLE)] * 3, "never came near the object"),
        ([(FAR, TABLE), (GOAL, TABLE)], "came to the goal without the object"),
        ([(FAR, TABLE), (TABLE, TABLE)], "came near the object and did not move it"),
        ([(TABLE, TABLE), (HIGH, HIGH), (FAR, TABLE)], "lifted the object and lost it"),
        ([(TABLE, TABLE), (PLACED, PLACED)], "brought the object to the goal, not quite"),
        ([(TABLE, TABLE), (PLACED, PLACED), (FAR, FAR)], "moved it past the goal"),
        ([((x, 0, 0), (x, 0, 0)) for x in np.linspace(0.0, 0.2, 10)], "out of time on the way to the goal"),
        ([(TABLE, TABLE), ((0.0, 0.2, 0.0), (0.0, 0.2, 0.0))], "moved the object elsewhere"),
    ],
)
def test_the_cause_is_the_first_rule_that_holds(moments, cause):
    found = failure(*moments)
    assert found is not None and found.cause == cause


def test_a_failure_has_its_least_distances():
    found = failure((FAR, TABLE), ((0.0, 0.1, 0.0), TABLE))
    assert found is not None
    assert (found.hand_to_target_m, found.target_to_goal_m) == pytest.approx((0.1, 0.3))


def test_of_a_robot_that_tells_too_little_nothing_is_said():
    made = run_episode(toy_world.make(), HoldPolicy(), task="push", seed=5, witnesses=[trace := Trace(STATE[:1])])
    assert not made.success and trace.failure() is None


def test_a_report_counts_failures_by_cause_and_names_their_tasks():
    def failed(task: str, seed: int, cause: str) -> Episode:
        return replace(episode(task, seed, False), failure=Failure(cause, 0.1, 0.2))

    episodes = [failed("push", 1, "lost"), failed("push", 2, "far"), failed("reach", 1, "far")]
    report = build_report(PROTOCOL, [*episodes, episode("reach", 2, True)], {})
    assert [(f["seed"], f["cause"]) for f in report["tasks"]["push"]["failures"]] == [(2, "far"), (1, "lost")]
    assert "| far                 | 2 | 1 push, 1 reach |" in summarise(report)


def test_a_strip_has_eight_frames_of_an_episode_and_each_task_one_failures(tmp_path):
    arguments = ["rollout", "--robot", "tests.toy_world", "--policy", "policies.hold", "--task", "all", "--videos", "0"]
    out = tmp_path / "out"
    assert main([*arguments, "--episodes", "2", "--workers", "2", "--strips", "--out", str(out)]) == 0
    assert sorted(path.name for path in (out / "strips").iterdir()) == ["push_1000000.png", "reach_1000000.png"]
    strip = cv2.imread(str(out / "strips" / "push_1000000.png"))
    assert strip is not None and strip.shape == (224 + 2 * 22, 8 * 224, 3)
    greens = [int(strip[100, 224 * i + 112, 1]) for i in range(8)]  # the toy's frame tells its step
    assert greens[0] == 0 and greens[-1] == 30 and greens == sorted(greens)
    assert not json.loads((out / "report.json").read_text())["tasks"]["push"].get("failures")  # the toy has no hand


def test_a_strip_of_a_long_episode_keeps_few_frames():
    strip = FilmStrip("front")
    robot = toy_world.make()
    strip.began(robot.reset(5, "push"))
    for step in range(1000):
        frame = np.full((16, 16, 3), step % 200, np.uint8)
        strip.decided(Step(Observation(step, {"front": frame}, np.zeros(2, np.float32), "push"), executed=1))
    assert 32 <= len(strip._frames) <= 64

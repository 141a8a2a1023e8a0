"""The loop carries a policy through an episode: exactly as long as asked, the same however it is watched."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from embodied.errors import (
    EmbodiedError,
    InvalidActionError,
    InvalidInstructionError,
    InvalidObservationError,
    UnknownNameError,
)
from embodied.loop import MAX_INSTRUCTION_CHARACTERS, Episode, check_instruction, run_episode
from embodied.types import Action, Fault, Intervention, Observation, Step
from tests.dummy_robot import HORIZON, DummyRobot
from tests.wave_policy import WavePolicy


class Watcher:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def began(self, observation: Observation) -> None:
        self.seen.append(observation)

    def stepped(self, action: Action, step: Step) -> None:
        self.seen.append(step)

    def ended(self, success: bool) -> None:
        self.seen.append(success)


def outcome(episode: Episode) -> Episode:
    """Leave out how long things took and who watched."""
    return replace(episode, cycles=(), reset_ns=0, observed=False, reward=round(episode.reward, 6))


def test_an_episode_runs_to_its_end_and_says_what_came_of_it():
    policy = WavePolicy()
    episode = run_episode(DummyRobot(), policy, task="wait", seed=1_000_000)
    assert (episode.task, episode.seed, episode.steps, episode.success) == ("wait", 1_000_000, HORIZON, False)
    assert episode.instruction == policy.instruction and "cube" in episode.instruction
    assert [c.steps for c in episode.cycles] == [6, 6, 6, 2]
    assert all(c.act_ns > 0 and c.step_ns > 0 for c in episode.cycles) and episode.reset_ns > 0


def test_without_an_observer_a_chunk_is_rendered_once():
    robot = DummyRobot()
    run_episode(robot, WavePolicy(chunk=5), task="wait", seed=3)
    assert robot.frames_rendered == len(robot.spec.cameras) * (1 + HORIZON / 5)


@pytest.mark.parametrize("task", ["reach", "wait"])
def test_an_observer_sees_every_step_with_frames_and_changes_nothing(task):
    for seed in range(20):
        watcher = Watcher()
        plain = run_episode(DummyRobot(), WavePolicy(), task=task, seed=seed)
        watched = run_episode(DummyRobot(), WavePolicy(), task=task, seed=seed, observers=[watcher])
        assert outcome(watched) == outcome(plain) and watched.observed and not plain.observed
        assert [c.steps for c in watched.cycles] == [c.steps for c in plain.cycles]
        first, *steps, success = watcher.seen
        assert first.frames and all(step.observation.frames for step in steps)
        assert len(steps) == watched.steps and success is watched.success


@pytest.mark.parametrize("max_steps", [1, 5, 6, 7])
def test_max_steps_means_exactly_that_many(max_steps):
    robot = DummyRobot()
    assert run_episode(robot, WavePolicy(), task="wait", seed=0, max_steps=max_steps).steps == max_steps == robot.steps


def test_the_same_seed_gives_the_same_episode_and_another_another():
    robot, policy = DummyRobot(), WavePolicy()
    first, again, other = (outcome(run_episode(robot, policy, task="wait", seed=seed)) for seed in (5, 5, 6))
    assert first == again and other != replace(first, seed=6)


def test_a_given_instruction_replaces_the_robots_own_everywhere_the_policy_looks():
    policy = WavePolicy()
    episode = run_episode(DummyRobot(), policy, task="wait", seed=0, instruction=" wave at the red cube ")
    assert {episode.instruction, policy.instruction, *(o.instruction for o in policy.asked)} == {"wave at the red cube"}


def test_interventions_are_gathered():
    episode = run_episode(DummyRobot(), WavePolicy(reach=50.0), task="wait", seed=0)
    assert {i.kind for i in episode.interventions} == {"position"} and len(episode.interventions) > HORIZON


@pytest.mark.parametrize("text", ["", " \n\t", "x" * (MAX_INSTRUCTION_CHARACTERS + 1), "x" * 10_000])
def test_an_empty_or_overlong_instruction_is_refused_before_anything_moves(text):
    robot = DummyRobot()
    with pytest.raises(InvalidInstructionError):
        run_episode(robot, WavePolicy(), task="wait", seed=0, instruction=text)
    assert robot.resets == 0
    assert check_instruction("x" * MAX_INSTRUCTION_CHARACTERS)


def test_an_unknown_task_is_refused_with_the_choices():
    with pytest.raises(UnknownNameError, match=r"no task 'juggle'; dummy has \['reach', 'wait'\]"):
        run_episode(DummyRobot(), WavePolicy(), task="juggle", seed=0)


def test_a_policy_that_answers_nothing_is_an_error():
    with pytest.raises(InvalidActionError, match="no action"):
        run_episode(DummyRobot(), WavePolicy(chunk=0), task="wait", seed=0)


class NumbRobot(DummyRobot):
    """Its second joint's sensor is broken."""

    def reset(self, seed: int, task: str) -> Observation:
        observation = super().reset(seed, task)
        return replace(observation, state=np.where(np.arange(4) == 1, np.nan, observation.state).astype(np.float32))


def test_a_nan_in_an_observation_is_named_and_never_reaches_the_policy():
    policy = WavePolicy()
    with pytest.raises(InvalidObservationError, match="'lift' is nan") as refusal:
        run_episode(NumbRobot(), policy, task="wait", seed=0)
    assert isinstance(refusal.value, EmbodiedError) and not policy.asked


class LateRobot(DummyRobot):
    """Drops every action that comes while `late` says so, as a robot server does with what missed its deadline."""

    def __init__(self, late: Sequence[bool]) -> None:
        super().__init__()
        self.late = list(late)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        timing_ns = {"queue": 1, "motion": 10 * len(actions)}
        if self.late and self.late.pop(0):
            late = Intervention("late", "pan", 0.2, 0.1)
            dropped = len(actions)
            return Step(self._observe(frames), executed=0, dropped=dropped, interventions=(late,), timing_ns=timing_ns)
        return replace(super().step(*actions, frames=frames), timing_ns=timing_ns)


@pytest.mark.parametrize("observed", [False, True])
def test_an_episode_whose_every_action_is_late_ends_at_max_steps(observed):
    robot = LateRobot([True] * 1000)
    observers = [Watcher()] if observed else []
    episode = run_episode(robot, WavePolicy(chunk=4), task="wait", seed=0, max_steps=10, observers=observers)
    assert (episode.steps, robot.steps, episode.success) == (0, 0, False)
    assert [(cycle.steps, cycle.dropped) for cycle in episode.cycles] == [(0, 4), (0, 4), (0, 2)]
    assert {i.kind for i in episode.interventions} == {"late"}


def test_a_dropped_action_is_spent_but_was_no_step():
    robot = LateRobot([False, True, False, False])
    episode = run_episode(robot, WavePolicy(chunk=3), task="wait", seed=0, max_steps=11)
    assert [(cycle.steps, cycle.dropped) for cycle in episode.cycles] == [(3, 0), (0, 3), (3, 0), (2, 0)]
    assert episode.steps == robot.steps == 8


class StuckRobot(DummyRobot):
    def step(self, *actions: Action, frames: bool = True) -> Step:
        return Step(self._observe(frames), executed=0)


def test_a_robot_that_carries_out_nothing_and_says_nothing_cannot_keep_an_episode_open():
    episode = run_episode(StuckRobot(), WavePolicy(), task="wait", seed=0, max_steps=7)
    assert episode.steps == 0 and len(episode.cycles) == 7


class BlindedRobot(DummyRobot):
    """Loses its wrist camera after some steps, and says so."""

    def __init__(self, sees_for: int) -> None:
        super().__init__()
        self.sees_for = sees_for

    def step(self, *actions: Action, frames: bool = True) -> Step:
        step = replace(super().step(*actions, frames=frames), health={"wrist.age_ms": 10.0 * self.steps})
        if self.steps < self.sees_for:
            return step
        seen = {name: frame for name, frame in step.observation.frames.items() if name != "wrist"}
        gone = Fault("wrist", "camera_lost", "no frame for 0.4 s")
        return replace(step, observation=replace(step.observation, frames=seen), faults=(gone,))


class LookingPolicy(WavePolicy):
    def act(self, observation: Observation) -> Sequence[Action]:
        if "wrist" not in observation.frames:
            raise InvalidObservationError("no frame of 'wrist'")
        return super().act(observation)


@pytest.mark.parametrize("observed", [False, True])
def test_a_policy_that_needs_a_lost_camera_stops_the_robot_and_has_failed(observed):
    robot = BlindedRobot(sees_for=6)
    observers = [Watcher()] if observed else []
    episode = run_episode(robot, LookingPolicy(chunk=3), task="wait", seed=0, observers=observers)
    assert (episode.steps, episode.success, robot.stops) == (6, False, 1)
    assert [(fault.part, fault.kind) for fault in episode.faults] == [("wrist", "camera_lost")]
    assert episode.health["wrist.age_ms"][1] == 60.0


class BlindAtFirst(DummyRobot):
    """Its wrist camera has no frame as the episode begins."""

    def __init__(self, *, realtime: bool) -> None:
        super().__init__()
        self.body._spec = replace(self.body.spec, realtime=realtime)

    def reset(self, seed: int, task: str) -> Observation:
        observation = super().reset(seed, task)
        return replace(observation, frames={"front": observation.frames["front"]})


def test_a_real_robots_camera_that_has_no_frame_at_the_start_fails_that_episode_alone():
    robot = BlindAtFirst(realtime=True)
    episode = run_episode(robot, LookingPolicy(chunk=3), task="wait", seed=0, observers=[Watcher()])
    assert (episode.steps, episode.success, robot.stops) == (0, False, 1)
    assert [(fault.part, fault.kind) for fault in episode.faults] == [("wrist", "camera_lost")]
    assert run_episode(robot, WavePolicy(chunk=3), task="wait", seed=0).steps == HORIZON  # it does without
    with pytest.raises(InvalidObservationError, match="wrist"):
        run_episode(BlindAtFirst(realtime=False), LookingPolicy(chunk=3), task="wait", seed=0)


def test_a_policy_that_does_without_a_lost_camera_goes_on_and_the_loss_is_in_the_record():
    episode = run_episode(BlindedRobot(sees_for=6), WavePolicy(chunk=3), task="wait", seed=0)
    assert episode.steps == HORIZON and len(episode.faults) == 1


def test_where_nothing_is_at_fault_an_observation_that_cannot_be_read_is_a_mistake():
    class Frameless(DummyRobot):
        def step(self, *actions: Action, frames: bool = True) -> Step:
            return super().step(*actions, frames=False)

    with pytest.raises(InvalidObservationError, match="wrist"):
        run_episode(Frameless(), LookingPolicy(chunk=3), task="wait", seed=0)


class TimedPolicy(WavePolicy):
    timing_ns = {"work": 3, "wire": 4}  # noqa: RUF012
    counts = {"chunks": 9}  # noqa: RUF012


@pytest.mark.parametrize("observed", [False, True])
def test_the_stages_that_policy_and_robot_name_are_carried_through(observed):
    observers = [Watcher()] if observed else []
    episode = run_episode(LateRobot([]), TimedPolicy(chunk=5), task="wait", seed=0, observers=observers)
    queued = 5 if observed else 1  # one message a step, or one for the chunk
    assert [cycle.robot_ns for cycle in episode.cycles] == [{"queue": queued, "motion": 50}] * 4
    assert [cycle.policy_ns for cycle in episode.cycles] == [{"work": 3, "wire": 4}] * 4
    assert episode.policy_counts == {"chunks": 9}

"""What every Robot must do, local or remote: inherit RobotContract and give it a `robot` fixture."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from embodied.errors import InvalidActionError, ProtocolError, UnknownNameError
from embodied.types import Intervention, Observation, PoseAction, Robot, RobotSpec, Step, Vector


def assert_same_observation(one: Observation, other: Observation) -> None:
    """Fail unless the two are equal to the last bit."""
    assert one.time_ns == other.time_ns and one.instruction == other.instruction
    np.testing.assert_array_equal(one.state, other.state, strict=True)
    assert list(one.frames) == list(other.frames)
    for name in one.frames:
        np.testing.assert_array_equal(one.frames[name], other.frames[name], strict=True)


def assert_same_step(one: Step, other: Step) -> None:
    """Fail unless the two are equal to the last bit, NaN included."""
    assert_same_observation(one.observation, other.observation)
    for name in ("success", "terminated", "truncated", "executed"):
        assert getattr(one, name) == getattr(other, name), name
    assert repr(one.reward) == repr(other.reward)
    assert repr(one.interventions) == repr(other.interventions)
    assert one.labels.keys() == other.labels.keys()
    for name in one.labels:
        np.testing.assert_array_equal(one.labels[name], other.labels[name], strict=True)


def holding(spec: RobotSpec, observation: Observation) -> Vector:
    """Return an action in range that stays put: the state fields named as the action's, zero for a delta."""
    state = dict(zip((f.name for f in spec.state), observation.state, strict=True))
    wanted = [0.0 if f.mode == "delta" else float(state.get(f.name, (f.low + f.high) / 2)) for f in spec.action]
    low, high = ([getattr(f, end) for f in spec.action] for end in ("low", "high"))
    return np.clip(wanted, low, high).astype(np.float32)


class RobotContract:
    """The contract as tests. seed and max_actions may be overridden; no episode may outlast max_actions."""

    seed = 7
    max_actions = 2000

    def begin(self, robot: Robot, seed: int | None = None) -> tuple[Observation, PoseAction]:
        """Begin an episode of the robot's first task; return the observation and an action that holds."""
        observation = robot.reset(self.seed if seed is None else seed, robot.spec.tasks[0])
        return observation, PoseAction(holding(robot.spec, observation))

    def test_it_is_a_robot(self, robot: Robot) -> None:
        assert isinstance(robot, Robot)

    def test_the_spec_is_complete_and_survives_json(self, robot: Robot) -> None:
        spec = robot.spec
        assert spec.name and spec.control_hz > 0 and spec.watchdog_s > 0 and spec.state and spec.action and spec.tasks
        for group in (spec.cameras, spec.state, spec.action):
            names = [entry.name for entry in group]
            assert len(set(names)) == len(names) and all(names)
        assert RobotSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec

    def test_every_task_can_be_begun_and_has_an_instruction(self, robot: Robot) -> None:
        for task in robot.spec.tasks:
            assert robot.reset(self.seed, task).instruction.strip()

    def test_a_reset_shows_every_camera_and_fits_the_spec(self, robot: Robot) -> None:
        observation, _ = self.begin(robot)
        robot.spec.check_observation(observation)
        assert set(observation.frames) == {c.name for c in robot.spec.cameras}
        assert observation.state.dtype == np.float32

    def test_the_same_seed_gives_the_same_episode(self, robot: Robot) -> None:
        first, action = self.begin(robot)
        first_step = robot.step(action)
        again, _ = self.begin(robot)
        assert_same_observation(first, again)
        assert_same_step(first_step, robot.step(action))

    def test_another_seed_gives_another_episode(self, robot: Robot) -> None:
        first, _ = self.begin(robot)
        other, _ = self.begin(robot, self.seed + 1)
        assert (
            any((first.frames[name] != other.frames[name]).any() for name in first.frames)
            or (first.state != other.state).any()
        )

    def test_an_unknown_task_is_refused_with_the_choices(self, robot: Robot) -> None:
        with pytest.raises(UnknownNameError, match="no task 'juggle'") as refusal:
            robot.reset(self.seed, "juggle")
        assert robot.spec.tasks[0] in str(refusal.value)

    def test_a_step_before_the_first_reset_is_refused(self, robot: Robot) -> None:
        low = np.array([f.low for f in robot.spec.action], np.float32)
        with pytest.raises(ProtocolError):
            robot.step(PoseAction(low))

    def test_a_step_after_the_end_is_refused(self, robot: Robot) -> None:
        _, action = self.begin(robot)
        for _ in range(self.max_actions):
            if (step := robot.step(action, frames=False)).done:
                break
        assert step.done, f"the episode outlasted {self.max_actions} actions"
        with pytest.raises(ProtocolError):
            robot.step(action)
        self.begin(robot)  # and the next episode begins as usual

    def test_a_chunk_ends_early_where_the_episode_does(self, robot: Robot) -> None:
        _, action = self.begin(robot)
        alone = 1
        while not robot.step(action, frames=False).done:
            alone += 1
        self.begin(robot)
        for _ in range(alone // 50):
            robot.step(*[action] * 50, frames=False)
        if rest := alone % 50:
            step = robot.step(*[action] * 50, frames=False)
            assert step.done and step.executed == rest

    def test_a_wrong_length_or_no_action_is_refused_and_nothing_moves(self, robot: Robot) -> None:
        _, action = self.begin(robot)
        expected = robot.step(action)
        self.begin(robot)
        with pytest.raises(InvalidActionError):
            robot.step(PoseAction(np.append(action.values, np.float32(0))))
        with pytest.raises(InvalidActionError):
            robot.step()
        assert_same_step(expected, robot.step(action))

    def test_a_chunk_equals_its_actions_one_by_one(self, robot: Robot) -> None:
        _, hold = self.begin(robot)
        middle = np.array([(f.low + f.high) / 2 for f in robot.spec.action], np.float32)
        chunk = [hold, PoseAction(hold.values * 0.9 + middle * 0.1), PoseAction(hold.values * 0.8 + middle * 0.2)]
        singles = [robot.step(action, frames=action is chunk[-1]) for action in chunk]
        assert [step.executed for step in singles] == [1, 1, 1]
        self.begin(robot)
        together = robot.step(*chunk)
        assert_same_observation(together.observation, singles[-1].observation)
        assert together.executed == 3
        assert together.reward == pytest.approx(sum(step.reward for step in singles))
        assert together.interventions == tuple(i for step in singles for i in step.interventions)

    def test_frames_come_only_when_asked_for(self, robot: Robot) -> None:
        _, action = self.begin(robot)
        assert robot.step(action, frames=False).observation.frames == {}
        step = robot.step(action, frames=True)
        assert set(step.observation.frames) == {c.name for c in robot.spec.cameras}
        robot.spec.check_observation(step.observation)

    def test_frames_asked_for_or_not_the_motion_is_the_same(self, robot: Robot) -> None:
        _, action = self.begin(robot)
        with_frames = robot.step(action, frames=True)
        self.begin(robot)
        without = robot.step(action, frames=False)
        np.testing.assert_array_equal(with_frames.observation.state, without.observation.state)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_non_finite_action_holds_and_is_reported(self, robot: Robot, bad: float) -> None:
        _, action = self.begin(robot)
        values = action.values.copy()
        values[0] = bad
        step = robot.step(PoseAction(values))
        (change,) = (i for i in step.interventions if i.kind == "non_finite")
        assert change.field == robot.spec.action[0].name and repr(change.requested) == repr(float(bad))
        assert np.isfinite(change.applied)
        robot.spec.check_observation(step.observation)

    def test_an_out_of_range_action_is_limited_and_reported_by_field(self, robot: Robot) -> None:
        for index, spec_field in enumerate(robot.spec.action):
            _, action = self.begin(robot)
            values = action.values.copy()
            values[index] = spec_field.high + 10.0
            step = robot.step(PoseAction(values))
            (change,) = (i for i in step.interventions if i.field == spec_field.name and i.kind == "position")
            assert change.requested == values[index]
            assert change.applied <= np.float32(spec_field.high)

    def test_a_step_across_the_range_is_as_quick_as_the_limits_and_reported(self, robot: Robot) -> None:
        velocity, acceleration = robot.spec.limits.velocity, robot.spec.limits.acceleration
        if not (velocity and acceleration):
            pytest.skip("the robot declares no limits of velocity and acceleration")
        period_s = 1 / robot.spec.control_hz
        names = [f.name for f in robot.spec.state]
        for index, spec_field in enumerate(robot.spec.action):
            observation, action = self.begin(robot)
            where, values = names.index(spec_field.name), action.values.copy()
            values[index] = max(spec_field.low, spec_field.high, key=lambda end: abs(end - values[index]))
            interventions: list[Intervention] = []
            for count in range(1, 4):
                step = robot.step(PoseAction(values), frames=False)
                moved = abs(float(step.observation.state[where] - observation.state[where]))
                most = period_s * min(velocity[index], acceleration[index] * period_s * count)
                assert moved <= 1.2 * most, f"{spec_field.name} moved {moved} in a period"  # a body swings a little
                observation = step.observation
                interventions += step.interventions
            told = {i.field for i in interventions if i.kind in ("velocity", "acceleration", "workspace")}
            assert told & {spec_field.name, "tool_x", "tool_y", "tool_z"}

    def test_what_a_stop_cuts_short_is_counted_as_dropped(self, robot: Robot) -> None:
        for _ in range(5):
            _, action = self.begin(robot)
            stopper = threading.Timer(0.002, robot.stop)
            stopper.start()
            step = robot.step(*[action] * 100, frames=False)
            stopper.join()
            assert step.done or step.executed + step.dropped == 100

    def test_stop_may_come_twice_and_from_another_thread(self, robot: Robot) -> None:
        _, action = self.begin(robot)
        robot.stop()
        stopper = threading.Thread(target=robot.stop)
        stopper.start()
        robot.step(action, frames=False)
        stopper.join(10)
        assert not stopper.is_alive()
        robot.stop()
        self.begin(robot)

    def test_close_may_come_twice_and_after_it_nothing_is_carried_out(self, robot: Robot) -> None:
        _, action = self.begin(robot)
        robot.close()
        robot.close()
        robot.stop()
        with pytest.raises(ProtocolError):
            robot.step(action)

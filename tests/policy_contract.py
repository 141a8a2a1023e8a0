"""What every Policy must do, local or remote: inherit PolicyContract and give it `policy` and `robot_spec` fixtures.

One whose sessions share forward passes inherits BatchingContract instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from embodied.bridge.batching import Batching
from embodied.errors import EmbodiedError, InvalidObservationError, ProtocolError, SpecMismatchError
from embodied.types import Action, Observation, Policy, PoseAction, RobotSpec


def random_observation(spec: RobotSpec, seed: int, instruction: str) -> Observation:
    """Return an observation that fits the spec: random pixels, a state within its ranges."""
    random = np.random.default_rng(seed)
    return Observation(
        time_ns=0,
        frames={c.name: random.integers(0, 256, (c.height, c.width, 3), np.uint8) for c in spec.cameras},
        state=np.array([random.uniform(f.low, f.high) for f in spec.state], np.float32),
        instruction=instruction,
    )


def in_plain_words(actions: list[Action]) -> list[object]:
    """Return actions as values that compare with ==."""
    return [a.values.tolist() if isinstance(a, PoseAction) else a for a in actions]


class PolicyContract:
    """The contract as tests: robot_spec is what the policy was trained for, instruction one that it can read."""

    instruction = "reach the red cube"

    def test_it_is_a_policy(self, policy: Policy) -> None:
        assert isinstance(policy, Policy)

    def test_its_actions_fit_the_robot(self, policy: Policy, robot_spec: RobotSpec) -> None:
        policy.reset(self.instruction, robot_spec)
        for seed in range(3):
            actions = policy.act(random_observation(robot_spec, seed, self.instruction))
            assert len(actions) >= 1
            for action in actions:
                if isinstance(action, PoseAction):
                    robot_spec.check_action(action)
                    assert action.values.dtype == np.float32 and np.isfinite(action.values).all()
                    for value, spec_field in zip(action.values, robot_spec.action, strict=True):
                        assert np.float32(spec_field.low) <= value <= np.float32(spec_field.high)

    def test_the_same_episode_gives_the_same_actions(self, policy: Policy, robot_spec: RobotSpec) -> None:
        runs = []
        for _ in range(2):
            policy.reset(self.instruction, robot_spec)
            acted = [policy.act(random_observation(robot_spec, seed, self.instruction)) for seed in range(2)]
            runs.append([in_plain_words(list(actions)) for actions in acted])
        assert runs[0] == runs[1]

    def test_another_robot_is_refused_with_every_difference(self, policy: Policy, robot_spec: RobotSpec) -> None:
        first = robot_spec.action[0]
        other = replace(
            robot_spec,
            control_hz=robot_spec.control_hz + 1,
            cameras=(replace(robot_spec.cameras[0], width=robot_spec.cameras[0].width + 1), *robot_spec.cameras[1:]),
            action=(replace(first, unit="furlong", high=first.high + 1), *robot_spec.action[1:]),
        )
        with pytest.raises(SpecMismatchError) as refusal:
            policy.reset(self.instruction, other)
        for difference in robot_spec.differences(other):
            assert difference in str(refusal.value)

    def test_a_missing_camera_or_reordered_field_is_refused(self, policy: Policy, robot_spec: RobotSpec) -> None:
        for other in (
            replace(robot_spec, cameras=robot_spec.cameras[1:]),
            replace(robot_spec, action=robot_spec.action[::-1]),
            replace(robot_spec, state=robot_spec.state[::-1]),
        ):
            with pytest.raises(SpecMismatchError):
                policy.reset(self.instruction, other)

    def test_acting_before_a_reset_is_refused(self, policy: Policy, robot_spec: RobotSpec) -> None:
        with pytest.raises(ProtocolError):
            policy.act(random_observation(robot_spec, 0, self.instruction))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_non_finite_state_is_refused_and_named(self, policy: Policy, robot_spec: RobotSpec, bad: float) -> None:
        policy.reset(self.instruction, robot_spec)
        observation = random_observation(robot_spec, 0, self.instruction)
        state = observation.state.copy()
        state[-1] = bad
        with pytest.raises(InvalidObservationError, match=robot_spec.state[-1].name):
            policy.act(replace(observation, state=state))
        policy.act(observation)  # and the episode goes on

    def test_a_frame_of_another_size_is_refused(self, policy: Policy, robot_spec: RobotSpec) -> None:
        policy.reset(self.instruction, robot_spec)
        observation = random_observation(robot_spec, 0, self.instruction)
        name = robot_spec.cameras[0].name
        cut = {**observation.frames, name: observation.frames[name][:-1]}
        with pytest.raises(InvalidObservationError, match=name):
            policy.act(replace(observation, frames=cut))


class BatchingContract(PolicyContract):
    """The contract of a policy that is Batching as well: sessions answered together, each as if it were alone."""

    sessions = 5

    def in_sessions(self, policy: Batching, robot_spec: RobotSpec) -> list[Batching]:
        forks = [policy, *(policy.fork() for _ in range(self.sessions - 1))]
        for fork in forks:
            fork.reset(self.instruction, robot_spec)
        return forks

    def test_sessions_answered_together_are_answered_as_if_alone(self, policy: Policy, robot_spec: RobotSpec) -> None:
        assert isinstance(policy, Batching)
        together, alone = self.in_sessions(policy, robot_spec), self.in_sessions(policy.fork(), robot_spec)
        for step in range(3):
            observations = [
                random_observation(robot_spec, self.sessions * step + i, self.instruction) for i in range(self.sessions)
            ]
            answers = type(policy).act_together(together, observations)
            for answer, one, observation in zip(answers, alone, observations, strict=True):
                assert not isinstance(answer, EmbodiedError)
                self.assert_same_actions(answer, one.act(observation), robot_spec)

    def assert_same_actions(self, found: Sequence[Action], expected: Sequence[Action], robot_spec: RobotSpec) -> None:
        """Assert that poses differ by less than a thousandth of a field's range, and that all else is the same.

        Logits of a batch differ in their last bits, so a value that lies between two value tokens may become either;
        those are a thousandth apart. Few do: nearly all are equal to the last bit.
        """
        assert len(found) == len(expected)
        ranges = np.array([f.high - f.low for f in robot_spec.action])
        for one, other in zip(found, expected, strict=True):
            if isinstance(one, PoseAction) and isinstance(other, PoseAction):
                assert (np.abs(one.values - other.values) <= 1.001e-3 * ranges).all()
            else:
                assert one == other

    def test_what_one_session_is_refused_keeps_none_from_its_answer(
        self, policy: Policy, robot_spec: RobotSpec
    ) -> None:
        assert isinstance(policy, Batching)
        forks = [*self.in_sessions(policy, robot_spec), policy.fork()]  # the last was never reset
        observations = [random_observation(robot_spec, seed, self.instruction) for seed in range(len(forks))]
        observations[0].state[-1] = np.nan
        name = robot_spec.cameras[0].name
        observations[2] = replace(
            observations[2], frames={**observations[2].frames, name: np.zeros((1, 1, 3), np.uint8)}
        )
        answers = type(policy).act_together(forks, observations)
        refused = [type(answer) if isinstance(answer, EmbodiedError) else None for answer in answers]
        assert refused == [InvalidObservationError, None, InvalidObservationError, None, None, ProtocolError]
        for i in (1, 3, 4):
            alone = policy.fork()
            alone.reset(self.instruction, robot_spec)
            answer = answers[i]
            assert not isinstance(answer, EmbodiedError)
            self.assert_same_actions(answer, alone.act(observations[i]), robot_spec)
        assert len(forks[0].act(random_observation(robot_spec, 0, self.instruction))) >= 1  # and its episode goes on

    def test_nothing_is_answered_where_nothing_is_asked(self, policy: Policy) -> None:
        assert isinstance(policy, Batching)
        assert list(type(policy).act_together([], [])) == []

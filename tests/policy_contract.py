"""What every Policy must do, local or remote: inherit PolicyContract and give it `policy` and `robot_spec` fixtures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embodied.errors import InvalidObservationError, ProtocolError, SpecMismatchError
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

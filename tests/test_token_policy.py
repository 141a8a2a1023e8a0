"""The token policy keeps a policy's contract, refuses what it cannot read, and holds where it has no answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.policy_server import serve_policy
from embodied.errors import EmbodiedError, InvalidInstructionError, InvalidObservationError, SpecMismatchError
from embodied.modules import open_policy
from embodied.types import Camera, Field, Limits, Policy, PoseAction, RobotSpec, TextAction
from policies.checkpoint import Checkpoint
from policies.model import PolicyModel
from policies.token import OLD_WEIGHT, TokenPolicy, make
from tests.policy_contract import BatchingContract, PolicyContract, random_observation
from tests.remote import remote_policy
from tests.tiny_policy import PLAN, SKILLS, SPEC, tiny_checkpoint

SAY = "reach the red cube"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def robot_spec() -> RobotSpec:
    return SPEC


@pytest.fixture
def policy(checkpoint: Checkpoint) -> Policy:
    return TokenPolicy(checkpoint, horizon=2)


def poses(actions: object) -> np.ndarray:
    assert isinstance(actions, list | tuple) and all(isinstance(a, PoseAction) for a in actions)
    return np.stack([a.values for a in actions])


class TestTokenPolicy(BatchingContract):
    """Local, poses."""


class TestTextTokenPolicy(BatchingContract):
    """Local, text actions."""

    @pytest.fixture
    def policy(self, checkpoint: Checkpoint) -> Policy:
        return TokenPolicy(checkpoint, mode="text")


class TestRemoteTokenPolicy(PolicyContract):
    """Over loopback gRPC."""

    @pytest.fixture
    def policy(self, checkpoint: Checkpoint) -> Iterator[Policy]:
        with remote_policy(lambda: TokenPolicy(checkpoint, horizon=2)) as policy:
            yield policy


def test_remote_actions_are_the_local_ones_bit_for_bit(checkpoint: Checkpoint, policy: Policy) -> None:
    observation = random_observation(SPEC, 3, SAY)
    policy.reset(SAY, SPEC)
    with remote_policy(lambda: TokenPolicy(checkpoint, horizon=2)) as remote:
        remote.reset(SAY, SPEC)
        np.testing.assert_array_equal(poses(policy.act(observation)), poses(remote.act(observation)), strict=True)


def test_a_lone_remote_session_is_the_local_one_whoever_else_is_connected(checkpoint: Checkpoint) -> None:
    local = TokenPolicy(checkpoint, horizon=2)
    local.reset(SAY, SPEC)
    with (
        serve_policy(lambda: TokenPolicy(checkpoint, horizon=2)) as server,
        RemotePolicy(server.address) as idle,
        RemotePolicy(server.address) as remote,
    ):
        idle.reset(SAY, SPEC)
        remote.reset(SAY, SPEC)
        for seed in range(3):
            seen = random_observation(SPEC, seed, SAY)
            np.testing.assert_array_equal(poses(remote.act(seen)), poses(local.act(seen)), strict=True)


def test_the_shipped_policy_answers_nearly_every_value_of_a_batch_to_the_last_bit() -> None:
    policy = make(ensemble=False)
    forks, alone = [policy.fork() for _ in range(8)], policy.fork()
    observations = [random_observation(policy.spec, seed, SAY) for seed in range(len(forks))]
    for fork in forks:
        fork.reset(SAY, policy.spec)
    equal = []
    for answer, observation in zip(TokenPolicy.act_together(forks, observations), observations, strict=True):
        alone.reset(SAY, policy.spec)
        BatchingContract().assert_same_actions(answer, alone.act(observation), policy.spec)
        alone.reset(SAY, policy.spec)
        equal.append(poses(answer) == poses(alone.act(observation)))
    assert np.mean(equal) > 0.98
    assert all(fork.checkpoint is policy.checkpoint for fork in forks)


def test_sessions_with_other_skills_and_instructions_spell_side_by_side(checkpoint: Checkpoint) -> None:
    skills = [("stay",), SKILLS, ("move left and then right", "up"), (SKILLS[0],)]
    says = [SAY, "push", "push the blue cube", "reach the target"]
    policies = [TokenPolicy(checkpoint, mode="text") for _ in range(4)]
    alone = TokenPolicy(checkpoint, mode="text")
    observations = [random_observation(SPEC, seed, SAY) for seed in range(4)]
    for policy, can, say in zip(policies, skills, says, strict=True):
        policy.reset(say, replace(SPEC, skills=can))
    answers = TokenPolicy.act_together(policies, observations)
    for answer, observation, can, say in zip(answers, observations, skills, says, strict=True):
        alone.reset(say, replace(SPEC, skills=can))
        assert answer == alone.act(observation)


def changed(value: object) -> object:
    """Return another value of the same kind."""
    if value in ("absolute", "delta"):
        return "delta" if value == "absolute" else "absolute"
    if isinstance(value, str):
        return value + "x"
    return value + 1 if isinstance(value, int) else value + 0.01  # type: ignore[operator]


def specs_with_one_difference() -> Iterator[tuple[str, RobotSpec]]:
    for name in (f.name for f in fields(RobotSpec)):
        if name in ("cameras", "state", "action"):
            entries = getattr(SPEC, name)
            for i, entry in enumerate(entries):
                for part in fields(entry):
                    other = replace(entry, **{part.name: changed(getattr(entry, part.name))})
                    yield f"{name}.{i}.{part.name}", replace(SPEC, **{name: (*entries[:i], other, *entries[i + 1 :])})
            extra: Any = Camera("side", 8, 8, 45.0) if name == "cameras" else Field("more", "rad", 0.0, 1.0)
            yield f"{name} one more", replace(SPEC, **{name: (*entries, extra)})
            yield f"{name} one fewer", replace(SPEC, **{name: entries[:-1]})
            yield f"{name} reordered", replace(SPEC, **{name: entries[::-1]})
        elif name not in ("tasks", "tiers", "skills", "limits", "realtime"):
            yield name, replace(SPEC, **{name: changed(getattr(SPEC, name))})


DIFFERENT = dict(specs_with_one_difference())


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_robot_that_differs_in_any_field_is_refused(policy: Policy, what: str) -> None:
    with pytest.raises(SpecMismatchError) as refusal:
        policy.reset(SAY, DIFFERENT[what])
    listed = SPEC.differences(DIFFERENT[what])
    assert listed and all(line in str(refusal.value) for line in listed)
    assert what.split(".")[0].split(" ")[0] in listed[0]


def test_every_difference_at_once_is_listed(policy: Policy) -> None:
    other = replace(
        SPEC,
        **{name: changed(getattr(SPEC, name)) for name in ("name", "control_hz", "watchdog_s", "version")},
        cameras=tuple(replace(c, height=c.height + 1, fovy_deg=1.0) for c in SPEC.cameras),
        action=tuple(replace(f, unit="deg", mode="delta") for f in SPEC.action),
    )
    with pytest.raises(SpecMismatchError) as refusal:
        policy.reset(SAY, other)
    assert str(refusal.value).count("\n  - ") == 4 + 2 * 2 + 3 * 2


def test_other_tasks_skills_and_limits_are_no_difference(policy: Policy) -> None:
    slow = Limits(velocity=(0.1,) * len(SPEC.action))
    policy.reset(SAY, replace(SPEC, tasks=("dance",), tiers=("hard",), skills=("fly",), limits=slow, realtime=True))


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("reach the red cube " * 540, "characters"),
        ("拿起红色方块", "does not know"),
        ("подними красный куб", "does not know"),
        ("fasse den roten Würfel an", "does not know"),
        ("!!! ???", "has no words"),
        ("🤖🤖", "has no words"),
        ("reach the red cube and then reach the blue cube", "reads at most 8"),
        ("reach the \ud800 red cube", "not text"),
    ],
)
def test_an_instruction_that_cannot_be_read_is_refused_with_the_reason(
    policy: Policy, instruction: str, reason: str
) -> None:
    with pytest.raises(InvalidInstructionError, match=reason):
        policy.reset(instruction, SPEC)
    with pytest.raises(EmbodiedError, match="act before reset"):
        policy.act(random_observation(SPEC, 0, SAY))


def test_an_instruction_may_be_in_capitals_and_have_a_word_it_never_saw(policy: Policy) -> None:
    policy.reset("  REACH the red ox ", SPEC)
    assert len(policy.act(random_observation(SPEC, 0, SAY))) == 2


@pytest.mark.parametrize("missing", ["front", "wrist"])
def test_a_frame_that_is_missing_is_named(policy: Policy, missing: str) -> None:
    policy.reset(SAY, SPEC)
    observation = random_observation(SPEC, 0, SAY)
    frames = {name: frame for name, frame in observation.frames.items() if name != missing}
    with pytest.raises(InvalidObservationError, match=rf"no frame of \['{missing}'\]"):
        policy.act(replace(observation, frames=frames))


def test_frames_may_be_views_that_cannot_be_written(policy: Policy) -> None:
    policy.reset(SAY, SPEC)
    observation = random_observation(SPEC, 0, SAY)
    expected = poses(policy.act(observation))
    flipped = {name: np.ascontiguousarray(frame[::-1, :, ::-1]) for name, frame in observation.frames.items()}
    views = {name: frame[::-1, :, ::-1] for name, frame in flipped.items()}
    for view in views.values():
        view.flags.writeable = False
    policy.reset(SAY, SPEC)
    np.testing.assert_array_equal(poses(policy.act(replace(observation, frames=views))), expected)


@pytest.mark.parametrize("mode", ["pose", "text"])
def test_an_answer_that_is_no_action_is_a_hold_at_the_measured_position(mode: Any) -> None:
    broken = tiny_checkpoint()
    with torch.no_grad():
        for parameter in broken.model.trunk.parameters():
            parameter.fill_(torch.nan)
    policy = TokenPolicy(broken, mode=mode)
    policy.reset(SAY, SPEC)
    for seed in range(3):
        observation = random_observation(SPEC, seed, SAY)
        actions = policy.act(observation)
        np.testing.assert_allclose(poses(actions), observation.state[None, :3], rtol=1e-6)


def test_the_horizon_is_how_many_actions_are_handed_out(checkpoint: Checkpoint) -> None:
    for horizon in (1, 3, PLAN.chunk):
        policy = TokenPolicy(checkpoint, horizon=horizon)
        policy.reset(SAY, SPEC)
        assert len(policy.act(random_observation(SPEC, 0, SAY))) == policy.chunk == horizon
    for horizon in (0, PLAN.chunk + 1):
        with pytest.raises(EmbodiedError, match=f"horizon {horizon} is not within the chunk of 1 to 5"):
            TokenPolicy(checkpoint, horizon=horizon)


def test_an_unknown_mode_is_refused_with_the_choices(checkpoint: Checkpoint) -> None:
    mode: Any = "video"
    with pytest.raises(EmbodiedError, match=r"no output mode 'video'.*\['pose', 'text'\]"):
        TokenPolicy(checkpoint, mode=mode)


def acted(checkpoint: Checkpoint, times: list[int], *, horizon: int = PLAN.chunk, ensemble: bool) -> list[np.ndarray]:
    """Return what is answered in an episode at each of some steps."""
    policy = TokenPolicy(checkpoint, horizon=horizon, ensemble=ensemble)
    policy.reset(SAY, SPEC)
    return [
        poses(policy.act(replace(random_observation(SPEC, step, SAY), time_ns=step * 100_000_000))) for step in times
    ]


def test_temporal_ensembling_averages_the_steps_that_overlap(checkpoint: Checkpoint) -> None:
    first, second, third = acted(checkpoint, [0, 2, 3], ensemble=False)
    blended = acted(checkpoint, [0, 2, 3], ensemble=True)
    np.testing.assert_array_equal(blended[0], first)
    weight = OLD_WEIGHT
    expected = second.copy()
    expected[:3] = (second[:3] + weight * first[2:]) / (1 + weight)
    np.testing.assert_allclose(blended[1], expected, rtol=1e-5)
    expected = third.copy()
    expected[:2] = (third[:2] + weight * second[1:3] + weight**2 * first[3:]) / (1 + weight + weight**2)
    expected[2:4] = (third[2:4] + weight * second[3:]) / (1 + weight)
    np.testing.assert_allclose(blended[2], expected, rtol=1e-5)
    assert np.abs(blended[1][:3] - second[:3]).max() > 1e-3


def test_a_chunk_that_is_over_has_no_say_and_an_episode_begins_afresh(checkpoint: Checkpoint) -> None:
    _, alone = acted(checkpoint, [0, PLAN.chunk], ensemble=False)
    _, later = acted(checkpoint, [0, PLAN.chunk], ensemble=True)
    np.testing.assert_array_equal(later, alone)
    policy = TokenPolicy(checkpoint, horizon=2)
    answers = []
    for _ in range(2):
        policy.reset(SAY, SPEC)
        answers.append(poses(policy.act(replace(random_observation(SPEC, 0, SAY), time_ns=200_000_000))))
    np.testing.assert_array_equal(*answers)


def test_while_the_robot_waits_nothing_of_a_chunk_goes_by(checkpoint: Checkpoint) -> None:
    def second_answer(time_ns: int) -> np.ndarray:
        policy = TokenPolicy(checkpoint, horizon=2)
        policy.reset(SAY, SPEC)
        policy.act(random_observation(SPEC, 0, SAY))
        return poses(policy.act(replace(random_observation(SPEC, 1, SAY), time_ns=time_ns)))

    now_ns = random_observation(SPEC, 0, SAY).time_ns
    soon, late, between = (second_answer(now_ns + ms * 1_000_000) for ms in (200, 3000, 100))
    np.testing.assert_array_equal(soon, late)
    assert np.abs(soon - between).max() > 1e-4


def test_sampling_draws_what_the_distributions_allow_and_an_episode_can_be_played_again(checkpoint: Checkpoint) -> None:
    seen = random_observation(SPEC, 0, SAY)

    def play(sampling: float, looks: int = 30) -> np.ndarray:
        policy = TokenPolicy(checkpoint, horizon=PLAN.chunk, sampling=sampling, ensemble=False).fork()
        policy.reset(SAY, SPEC)
        return np.stack([poses(policy.act(seen)) for _ in range(looks)])

    drawn, narrow = play(1.0), play(0.2)
    np.testing.assert_array_equal(play(1.0), drawn)
    assert play(0.0).std(0).max() < 1e-5 < narrow.std(0).min() < drawn.std(0).min()
    # All steps of a chunk take one quantile of their distributions: what is more at one is no less at another.
    first, last = drawn[:, 0, 0], drawn[:, -1, 0]
    assert (np.diff(last[np.lexsort((last, first))]) >= -1e-6).all()


def test_text_mode_says_a_skill_of_the_robot_that_it_is_given(checkpoint: Checkpoint) -> None:
    policy = TokenPolicy(checkpoint, mode="text")
    for skills in (SKILLS, ("Grüße", "Stay HERE <pose>")):
        policy.reset(SAY, replace(SPEC, skills=skills))
        (action,) = policy.act(random_observation(SPEC, 0, SAY))
        assert isinstance(action, TextAction) and action.text in skills
    with pytest.raises(EmbodiedError, match="has no skills"):
        policy.reset(SAY, replace(SPEC, skills=()))


def test_it_says_where_it_believes_things_are(policy: TokenPolicy) -> None:
    policy.reset(SAY, SPEC)
    assert policy.last_boxes == {}
    policy.act(random_observation(SPEC, 0, SAY))
    assert set(policy.labels) == {"goal_box", "target"} and policy.labels["target"].shape == (3,)
    assert all(0 <= edge <= 1 for edge in policy.last_boxes["goal"])


def test_numbers_out_of_range_are_counted(policy: TokenPolicy) -> None:
    policy.reset(SAY, SPEC)
    observation = random_observation(SPEC, 0, SAY)
    state = observation.state.copy()
    state[:2] = 99.0
    policy.act(replace(observation, state=state))
    assert policy.outside == 2


def test_it_is_made_from_a_folder_by_its_dotted_name(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path)
    opened = open_policy("policies.token", tmp_path, {"horizon": 3})
    opened.policy.reset(SAY, SPEC)
    assert len(opened.policy.act(random_observation(SPEC, 0, SAY))) == 3


@pytest.mark.parametrize(
    "options",
    [
        *({"horizon": "far"}, {"mode": "video"}, {"horizon": 99}, {"speed": 2}),
        *({"ensemble": "No"}, {"rows": 0}, {"sampling": 2}, {"sampling": "much"}, {"sampling": 0.5, "mode": "text"}),
    ],
)
def test_a_wrong_option_is_the_users_mistake(checkpoint: Checkpoint, tmp_path: Path, options: dict[str, Any]) -> None:
    checkpoint.save(tmp_path)
    with pytest.raises(EmbodiedError):
        open_policy("policies.token", tmp_path, options)


TWIN = replace(PLAN, spec=replace(SPEC, name="twin"), chunk=PLAN.chunk + 2)


@pytest.fixture(scope="module")
def of_two() -> Checkpoint:
    """Return a checkpoint of two robots, the second of which is driven otherwise and for longer."""
    one = tiny_checkpoint()
    torch.manual_seed(1)
    return replace(one, model=PolicyModel([PLAN, TWIN], one.model.config, one.vocabulary.size).eval())


def test_of_several_robots_it_drives_the_one_it_is_begun_with(of_two: Checkpoint) -> None:
    policy = TokenPolicy(of_two, horizon=2)
    seen = random_observation(SPEC, 0, SAY)
    answered = {}
    for spec in (TWIN.spec, SPEC):
        policy.reset(SAY, spec)
        assert policy.spec == spec
        answered[spec.name] = poses(policy.act(seen))
        named = TokenPolicy(of_two, horizon=2, embodiment=spec.name)
        named.reset(SAY, spec)
        np.testing.assert_array_equal(answered[spec.name], poses(named.act(seen)))
    assert np.abs(answered["twin"] - answered[SPEC.name]).max() > 1e-3
    with pytest.raises(SpecMismatchError, match=r"name: expected one of \['dummy', 'twin'\], found third"):
        policy.reset(SAY, replace(SPEC, name="third"))
    with pytest.raises(SpecMismatchError, match="name: expected twin, found dummy"):
        TokenPolicy(of_two, embodiment="twin").reset(SAY, SPEC)


def test_sessions_of_several_robots_are_answered_side_by_side(of_two: Checkpoint) -> None:
    first = TokenPolicy(of_two, horizon=2)
    specs = [SPEC, TWIN.spec, TWIN.spec, SPEC]
    policies = [first.fork() for _ in specs]
    observations = [random_observation(SPEC, seed, SAY) for seed in range(len(specs))]
    for policy, spec in zip(policies, specs, strict=True):
        policy.reset(SAY, spec)
    answers = TokenPolicy.act_together(policies, observations)
    for answer, observation, spec in zip(answers, observations, specs, strict=True):
        first.reset(SAY, spec)
        BatchingContract().assert_same_actions(answer, first.act(observation), spec)


def test_a_whole_chunk_is_that_of_the_robot_it_is_begun_with(of_two: Checkpoint) -> None:
    whole = TokenPolicy(of_two, horizon=2).whole()
    for plan in (TWIN, PLAN):
        whole.reset(SAY, plan.spec)
        assert len(whole.act(random_observation(plan.spec, 0, SAY))) == plan.chunk


def test_one_who_would_never_remember_a_frame_is_refused(checkpoint: Checkpoint) -> None:
    plan = replace(PLAN, history=1, history_stride=1)
    model = PolicyModel([plan], checkpoint.model.config, checkpoint.vocabulary.size)
    with pytest.raises(EmbodiedError, match="horizon 3: the policy looks back at frames 1 steps apart"):
        TokenPolicy(replace(checkpoint, model=model), horizon=3)
    TokenPolicy(replace(checkpoint, model=model), horizon=1).whole()  # when to look is another's to say


def test_with_rows_an_answer_is_the_same_to_the_last_bit_whoever_else_asks() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as embodied serve has it: several may part an odd number of rows anywhere
    policy = make(rows=3)  # the shipped one, whose sums are long enough to be rounded otherwise in other batches
    observations = [random_observation(policy.spec, seed, SAY) for seed in range(5)]

    def ask(order: list[int]) -> dict[int, tuple[bytes, ...]]:
        forks = {i: policy.fork() for i in order}
        for fork in forks.values():
            fork.reset(SAY, policy.spec)
        answers = TokenPolicy.act_together([*forks.values()], [observations[i] for i in order])
        located = [[label.tobytes() for label in fork.labels.values()] for fork in forks.values()]
        return dict(
            zip(order, ((poses(a).tobytes(), *where) for a, where in zip(answers, located, strict=True)), strict=True)
        )

    alone = {i: ask([i])[i] for i in range(5)}
    assert ask([0, 1, 2, 3, 4]) == ask([4, 2, 0, 3, 1]) == alone
    torch.set_num_threads(threads)

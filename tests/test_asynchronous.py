"""Thinking while moving: what is committed stays, seams do not jump, what is stale is never executed."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.asynchronous import AsyncPolicy, blend, seam_weight
from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.policy_server import serve_policy
from embodied.clocks import SimulatedClock
from embodied.errors import InvalidActionError, LateError, ProtocolError, SpecMismatchError
from embodied.loop import run_episode
from embodied.types import Action, Field, Observation, PoseAction, RobotSpec, TextAction
from tests.dummy_robot import HORIZON, DummyRobot

PLACE, PUSH = Field("place", "m", -100.0, 100.0), Field("push", "m", -9.0, 9.0, "delta")
SPEC = RobotSpec("slider", 10.0, (), (PLACE,), (PLACE, PUSH))
MEASURED = 0.5
TIMEOUT_S = 20.0

Predict = Callable[[int], Iterable[float]]  # from the control step of an observation to the places of a chunk


def seen_at(step: int, place: float = MEASURED) -> Observation:
    time_ns = 7_000_000_000 + step * 100_000_000  # a robot's clock begins anywhere
    return Observation(time_ns, {}, np.array([place], np.float32), "slide")


class Slider:
    """Says where to be at each step of a chunk, and remembers at which steps it looked."""

    def __init__(self, predict: Predict) -> None:
        self.predict, self.looked = predict, list[int]()

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self.looked = []

    def act(self, observation: Observation) -> Sequence[Action]:
        self.looked.append(round((observation.time_ns - 7_000_000_000) / 1e8))
        return [PoseAction(np.array([place, 2.0], np.float32)) for place in self.predict(self.looked[-1])]


def drive(policy: AsyncPolicy, steps: int) -> list[PoseAction]:
    """Return the actions of the first steps control steps of an episode."""
    policy.reset("slide", SPEC)
    carried_out: list[PoseAction] = []
    while len(carried_out) < steps:
        carried_out += policy.act(seen_at(len(carried_out)))
    return carried_out[:steps]


def places(actions: Sequence[PoseAction]) -> list[float]:
    return [float(action.values[0]) for action in actions]


def line(chunk: int) -> Predict:
    """Be where the step is: every chunk agrees with every other."""
    return lambda step: range(step, step + chunk)


class Follower(Slider):
    """Goes on from where it sees the robot, a metre a step."""

    def act(self, observation: Observation) -> Sequence[Action]:
        place = float(observation.state[0])
        return [PoseAction(np.array([place + 1 + i, 2.0], np.float32)) for i in self.predict(0)]


def moves_of(policy: AsyncPolicy, spec: RobotSpec) -> np.ndarray:
    """Return 60 moves of a robot that is where it was told to be.

    In real time it looks as its last action begins, and what it sees is where that leads: the policy has learnt so.
    """
    policy.reset("slide", spec)
    carried_out = [0.0]
    while len(carried_out) <= 60:
        seen = len(carried_out) - 1 - (spec.realtime and len(carried_out) > 1)
        carried_out += places(policy.act(seen_at(seen, carried_out[-1])))
    return np.diff(carried_out[:61])


@given(delay=st.integers(1, 9), chunk=st.integers(22, 30))
def test_in_real_time_too_chunks_that_agree_go_on_from_one_to_the_next_without_a_jump(delay, chunk):
    spec = replace(SPEC, realtime=True)
    moves = moves_of(AsyncPolicy(Follower(line(chunk)), SimulatedClock(delay)), spec)
    start = int(np.flatnonzero(moves)[0])
    assert start <= delay + 2 and (moves[start:] == 1).all()


def test_in_real_time_what_answers_a_look_begins_after_the_action_under_way_all_of_it():
    policy = AsyncPolicy(Slider(lambda step: [step * 10.0, step * 10.0 + 1]), SimulatedClock(0), horizon=2)
    policy.reset("slide", replace(SPEC, realtime=True))
    carried_out = [place for seen in (0, 1, 3) for place in places(policy.act(seen_at(seen)))]
    assert carried_out == [0.0, 1.0, 10.0, 11.0, 30.0, 31.0] and policy.counts["held_steps"] == 0


@given(delay=st.integers(0, 9), horizon=st.integers(1, 5), chunk=st.integers(1, 30))
def test_chunks_that_agree_are_carried_out_without_a_jump_whatever_the_delay(delay, horizon, chunk):
    policy = AsyncPolicy(Follower(line(chunk)), SimulatedClock(delay), horizon=horizon)
    moves = moves_of(policy, SPEC)
    assert (moves[:delay] == 0).all() and {*moves} <= {0.0, 1.0}
    if delay + max(delay, horizon) <= chunk:  # never runs dry
        assert (moves[delay:] == 1).all() and policy.counts["held_steps"] == delay
    if chunk <= delay:
        assert (moves == 0).all()


def test_a_chunk_replaces_the_plan_exactly_as_late_as_the_delay_and_what_was_committed_stays():
    inner = Slider(lambda step: [step * 10.0] * 8)  # says when it was asked
    policy = AsyncPolicy(inner, SimulatedClock(2))
    found = places(drive(policy, 6))
    assert inner.looked[:3] == [0, 2, 4]  # never two at a time
    weight = seam_weight(0, 6)
    assert found[:4] == [MEASURED, MEASURED, 0.0, 0.0]
    assert found[4] == pytest.approx((1 - weight) * 20.0)  # seen at step 2, there at step 4, blended with the plan


def test_without_a_delay_a_chunk_is_carried_out_at_once_and_the_next_look_is_a_horizon_later():
    inner = Slider(line(10))
    assert places(drive(AsyncPolicy(inner, SimulatedClock(0), horizon=3), 9)) == [*range(9)]
    assert inner.looked == [0, 3, 6]


@given(count=st.integers(1, 30))
def test_the_running_plans_weight_fades_from_near_one_to_near_nothing(count):
    weights = [seam_weight(i, count) for i in range(count)]
    assert weights == sorted(weights, reverse=True) and all(0 < weight < 1 for weight in weights)
    if count >= 5:
        assert weights[0] > 0.6 and weights[-1] < 0.2


def test_a_seam_between_chunks_that_disagree_is_a_ramp_and_no_jump():
    inner = Slider(lambda step: [0.0 if step < 3 else 1.0] * 12)
    found = np.array(places(drive(AsyncPolicy(inner, SimulatedClock(3)), 40)))[3:]
    assert found[0] == 0.0 and found[-1] == pytest.approx(1.0, abs=1e-3)
    assert np.diff(found).min() >= 0 and np.diff(found).max() < 0.5


def test_where_the_plan_runs_dry_the_last_pose_is_held_and_a_delta_is_zero():
    policy = AsyncPolicy(Slider(lambda step: [5.0, 6.0, 7.0]), SimulatedClock(2), horizon=9)
    found = drive(policy, 9)
    assert places(found) == [MEASURED, MEASURED, 5.0, 6.0, 7.0, 7.0, 7.0, 7.0, 7.0]
    assert [float(action.values[1]) for action in found] == [0.0, 0.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    assert policy.counts["held_steps"] == 6


def test_a_chunk_goes_on_from_where_a_dry_robot_held_but_not_if_it_moved_meanwhile():
    policy = AsyncPolicy(Slider(lambda step: [step + i for i in range(6)]), SimulatedClock(4))
    found = places(drive(policy, 16))
    assert found[4:8] == [0.0, 1.0, 2.0, 3.0]  # of the first chunk, from its first
    assert found[8] == pytest.approx(seam_weight(0, 2) * 4.0 + (1 - seam_weight(0, 2)) * 8.0)


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_a_chunk_as_old_as_it_is_long_is_stale_and_never_carried_out(chunk):
    policy = AsyncPolicy(Slider(lambda step: [99.0] * chunk), SimulatedClock(4))
    assert places(drive(policy, 17)) == [MEASURED] * 17
    assert policy.counts == {"chunks": 4, "stale_chunks": 4, "late_chunks": 0, "held_steps": 20}


def test_a_chunk_one_longer_than_the_delay_is_not_stale():
    policy = AsyncPolicy(Slider(lambda step: [99.0] * 5), SimulatedClock(4))
    assert 99.0 in places(drive(policy, 17)) and policy.counts["stale_chunks"] == 0


def test_an_answer_past_its_deadline_is_no_chunk_and_the_plan_goes_on():
    class Late(Slider):
        def act(self, observation):
            chunk = super().act(observation)
            if len(self.looked) == 2:
                raise LateError("too late")
            return chunk

    policy = AsyncPolicy(Late(line(20)), SimulatedClock(2))
    assert places(drive(policy, 6)) == [MEASURED, MEASURED, 0, 1, 2, 3]
    assert policy.counts["late_chunks"] == 1


def test_what_the_policy_inside_raises_comes_with_the_next_act():
    class Broken(Slider):
        def act(self, observation):
            raise InvalidActionError("no idea")

    policy = AsyncPolicy(Broken(line(9)), SimulatedClock(3))
    policy.reset("slide", SPEC)
    assert places(policy.act(seen_at(0))) == [MEASURED] * 3
    with pytest.raises(InvalidActionError, match="no idea"):
        policy.act(seen_at(3))
    real = AsyncPolicy(Broken(line(9)))
    real.reset("slide", SPEC)
    with pytest.raises(InvalidActionError, match="no idea"):
        until(lambda step: not real.act(seen_at(step)))
    real.close()


def test_the_field_modes_decide_and_a_robot_that_cannot_be_held_is_refused():
    blind = replace(SPEC, state=(Field("other", "m", 0.0, 1.0),))
    with pytest.raises(SpecMismatchError, match="no state field of this name to hold"):
        AsyncPolicy(Slider(line(9)), SimulatedClock(1)).reset("slide", blind)
    with pytest.raises(ProtocolError, match="act before reset"):
        AsyncPolicy(Slider(line(9)), SimulatedClock(1)).act(seen_at(0))


def test_words_are_handed_out_as_they_are():
    words = TextAction("move up")
    assert blend(PoseAction(np.zeros(1, np.float32)), words, 0.9) is words
    assert blend(words, words, 0.9) is words


def test_the_same_episode_comes_out_every_time_and_another_follows_without_a_trace():
    policy = AsyncPolicy(Slider(lambda step: [step % 7] * 10), SimulatedClock(3))
    first, again = drive(policy, 30), drive(policy, 30)
    assert places(first) == places(again) and policy.counts["held_steps"] == 3


def test_an_episode_of_a_delayed_policy_is_as_long_as_any_and_counts_what_was_held():
    inner = Slider(lambda step: [0.3] * 10)
    inner.act = lambda observation: [PoseAction(np.full(3, 0.02, np.float32))] * 10  # type: ignore[method-assign]
    episode = run_episode(DummyRobot(), AsyncPolicy(inner, SimulatedClock(4)), task="wait", seed=0)
    assert episode.steps == HORIZON and [cycle.steps for cycle in episode.cycles] == [4] * 5
    assert episode.policy_counts == {"chunks": 4, "stale_chunks": 0, "late_chunks": 0, "held_steps": 4}
    assert [bool(cycle.policy_ns) for cycle in episode.cycles] == [False, True, True, True, True]


# ------------------------------------------------------------------------------------------------ in real time


class Gate(Slider):
    """Thinks for as long as the gate is shut."""

    def __init__(self, predict: Predict) -> None:
        super().__init__(predict)
        self.gate, self.threads, self.at_once, self.most_at_once = threading.Event(), set[int](), 0, 0

    def act(self, observation: Observation) -> Sequence[Action]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.threads.add(threading.get_ident())
        assert self.gate.wait(TIMEOUT_S)
        self.at_once -= 1
        return super().act(observation)


def until(happened: Callable[[int], bool]) -> int:
    """Take steps until one makes it happen; return how many that took."""
    deadline = time.monotonic() + TIMEOUT_S
    step = 0
    while not happened(step):
        assert time.monotonic() < deadline
        step += 1
    return step


def test_in_real_time_the_robot_moves_on_while_one_inference_runs_in_a_thread():
    inner = Gate(lambda step: [9.0] * 99 if step == 0 else [4.0])
    policy = AsyncPolicy(inner)
    policy.reset("slide", SPEC)
    assert [places(policy.act(seen_at(step))) for step in range(50)] == [[MEASURED]] * 50
    inner.gate.set()
    until(lambda _: places(policy.act(seen_at(50))) == [9.0])
    assert inner.most_at_once == 1 and inner.threads.isdisjoint({threading.get_ident()})
    assert policy.timing_ns["inference"] > 0 or policy.counts["chunks"] >= 1
    policy.close()


def test_in_real_time_a_chunk_that_took_too_long_is_stale():
    inner = Gate(lambda step: [9.0] * 5)
    policy = AsyncPolicy(inner)
    policy.reset("slide", SPEC)
    policy.act(seen_at(0))
    inner.gate.set()
    until(lambda _: places(policy.act(seen_at(5))) and policy.counts["stale_chunks"] == 1)
    policy.close()


def test_a_new_episode_waits_for_the_old_ones_inference_and_drops_its_chunk():
    inner = Gate(lambda step: [9.0] * 50)
    policy = AsyncPolicy(inner)
    policy.reset("slide", SPEC)
    policy.act(seen_at(0))
    opener = threading.Timer(0.05, inner.gate.set)
    opener.start()
    policy.reset("slide", SPEC)  # returns once the gate is open
    assert inner.gate.is_set() and inner.at_once == 0
    inner.gate.clear()
    assert places(policy.act(seen_at(0))) == [MEASURED] and policy.counts["chunks"] == 0
    inner.gate.set()
    policy.close()
    policy.close()


class Slow(Gate):
    """Answers the first observation in time, and every other when the gate is open."""

    def act(self, observation: Observation) -> Sequence[Action]:
        if not self.looked:
            return Slider.act(self, observation)
        return super().act(observation)


def test_a_policy_server_that_misses_its_deadline_gives_no_chunk_and_the_plan_goes_on():
    inner = Slow(line(1000))
    with serve_policy(lambda: inner) as server, RemotePolicy(server.address, within_s=0.5) as remote:
        policy = AsyncPolicy(remote, horizon=3)
        policy.reset("slide", SPEC)
        until(lambda step: policy.act(seen_at(0)) is not None and policy.counts["chunks"] == 1)
        threading.Timer(1.0, inner.gate.set).start()  # well after the deadline
        until(lambda step: policy.act(seen_at(3)) is not None and policy.counts["late_chunks"] >= 1)
        assert places(policy.act(seen_at(5)))[0] != MEASURED  # of the plan, with no hold
        policy.close()


def test_closing_ends_the_thread():
    before = {*threading.enumerate()}
    policy = AsyncPolicy(Slider(line(9)))
    policy.reset("slide", SPEC)
    policy.act(seen_at(0))
    (thread,) = {*threading.enumerate()} - before
    policy.close()
    assert not thread.is_alive()

"""The policy bridge: a remote policy is the local one, and every session has its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import grpc
import numpy as np
import pytest

from embodied.bridge.codec import encode_observation
from embodied.bridge.envelope import pack
from embodied.bridge.policy_client import PolicyDescription, RemotePolicy
from embodied.bridge.policy_server import MAX_SESSIONS, serve_policy
from embodied.bridge.robot_client import RemoteRobot
from embodied.errors import InvalidInstructionError, ProtocolError, SpecMismatchError
from embodied.types import Action, Observation, Policy, PoseAction, RobotSpec, SkillCall, TextAction
from embodied.v1 import policy_pb2 as pb
from policies.hold import HoldPolicy
from tests.dummy_robot import DummyRobot
from tests.policy_contract import PolicyContract, random_observation
from tests.remote import remote_policy

SPEC = DummyRobot().spec


class TestRemoteHoldPolicy(PolicyContract):
    @pytest.fixture
    def policy(self) -> Iterator[Policy]:
        with remote_policy(lambda: HoldPolicy(SPEC)) as policy:
            yield policy

    @pytest.fixture
    def robot_spec(self) -> RobotSpec:
        return SPEC


class CountingPolicy:
    """Answers with a chunk that says how often it has acted since its reset; says what it was trained for."""

    spec, chunk = SPEC, 4
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.acted = 0

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        if not instruction.strip():
            raise InvalidInstructionError("the instruction is empty")
        self.acted = 0

    def act(self, observation: Observation) -> Sequence[Action]:
        self.acted += 1
        if observation.instruction == "break":
            raise ZeroDivisionError("no head")
        if observation.instruction == "nothing":
            return []
        pose = PoseAction(np.full(3, self.acted, np.float32))
        return [TextAction(f"seen {sorted(observation.frames)}"), SkillCall("home"), pose, pose]


def observe(instruction: str = "go") -> Observation:
    return random_observation(SPEC, 0, instruction)


def test_a_mixed_chunk_comes_back_with_the_time_it_took() -> None:
    with remote_policy(CountingPolicy) as policy:
        policy.reset("go", SPEC)
        text, skill, pose, _ = policy.act(observe())
        assert text == TextAction("seen ['front', 'wrist']") and skill == SkillCall("home")
        assert isinstance(pose, PoseAction) and pose.values.tolist() == [1, 1, 1]
        assert set(policy.timing_ns) == {"queue", "work", "wire"} and all(
            0 < ns < 1e9 for ns in policy.timing_ns.values()
        )


def test_the_policy_says_what_it_is() -> None:
    with serve_policy(CountingPolicy, name="counting") as server, RemotePolicy(server.address) as policy:
        assert policy.description == PolicyDescription("counting", SPEC, 4)
    with serve_policy(HoldPolicy, name="hold") as server, RemotePolicy(server.address) as policy:
        assert policy.description == PolicyDescription("hold", None, 0)


def test_what_is_observed_arrives_to_the_last_bit() -> None:
    seen: list[Observation] = []

    class Seeing(HoldPolicy):
        def act(self, observation: Observation) -> Sequence[Action]:
            seen.append(observation)
            return super().act(observation)

    with remote_policy(Seeing) as policy:
        policy.reset("go", SPEC)
        policy.act(sent := replace(observe("grüße 🤖"), time_ns=2**62))
    assert (seen[0].time_ns, seen[0].instruction) == (sent.time_ns, sent.instruction)
    np.testing.assert_array_equal(seen[0].state, sent.state, strict=True)
    for name in sent.frames:
        np.testing.assert_array_equal(seen[0].frames[name], sent.frames[name], strict=True)


def test_sessions_at_once_do_not_share_a_policy_and_later_ones_reuse_it() -> None:
    CountingPolicy.made = 0
    with serve_policy(CountingPolicy) as server:
        policies = [RemotePolicy(server.address) for _ in range(3)]
        counts: list[list[float]] = [[] for _ in policies]

        def episode(index: int) -> None:
            policies[index].reset("go", SPEC)
            for _ in range(5):
                pose = policies[index].act(observe())[-1]
                assert isinstance(pose, PoseAction)
                counts[index].append(float(pose.values[0]))

        threads = [threading.Thread(target=episode, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert counts == [[1, 2, 3, 4, 5]] * 3
        for policy in policies:
            policy.close()
        made = CountingPolicy.made
        assert made <= 3
        for _ in range(3):
            with RemotePolicy(server.address) as policy, pytest.raises(ProtocolError, match="act before reset"):
                policy.act(observe())
        assert CountingPolicy.made == made


def test_more_sessions_than_there_is_room_for_are_refused() -> None:
    with serve_policy(HoldPolicy, name="hold") as server:
        policies = [RemotePolicy(server.address) for _ in range(MAX_SESSIONS + 1)]
        for policy in policies[:-1]:
            policy.reset("go", SPEC)
        with pytest.raises(ProtocolError, match="hold already serves 8 sessions"):
            policies[-1].reset("go", SPEC)
        for policy in policies:
            policy.close()
        with RemotePolicy(server.address) as policy:
            policy.reset("go", SPEC)


def test_a_fault_of_the_policy_is_one_line_and_the_session_goes_on() -> None:
    with remote_policy(CountingPolicy) as policy:
        policy.reset("go", SPEC)
        with pytest.raises(ProtocolError, match=r"^the far side failed with ZeroDivisionError: no head$"):
            policy.act(observe("break"))
        with pytest.raises(ProtocolError, match="replied without actions"):
            policy.act(observe("nothing"))
        policy.act(observe())


def test_a_refused_beginning_leaves_no_episode_to_go_on_with() -> None:
    with remote_policy(CountingPolicy) as policy:
        policy.reset("go", SPEC)
        with pytest.raises(InvalidInstructionError, match="the instruction is empty"):
            policy.reset(" ", SPEC)
        with pytest.raises(ProtocolError, match="act before reset"):
            policy.act(observe())


def test_a_policy_that_cannot_be_made_is_the_servers_failure() -> None:
    def fail() -> Policy:
        raise SpecMismatchError("the checkpoint", "robot 'dummy'", ["control_hz: expected 10, found 20"])

    with pytest.raises(SpecMismatchError, match="expected 10, found 20"):
        serve_policy(fail)


def test_garbage_on_the_stream_is_refused_and_the_stream_goes_on() -> None:
    with serve_policy(HoldPolicy) as server, grpc.insecure_channel(server.address) as channel:
        requests = [b"\xff" * 40, b"", pack(pb.ActRequest(observation=encode_observation(observe())), {})]
        stream = channel.stream_stream("/embodied.v1.PolicyService/Act")
        replies = [pb.ActReply.FromString(reply).error.message for reply in stream(iter(requests))]
    assert replies[0].startswith("not a ActRequest")
    assert replies[1].startswith("a request of no kind")
    assert "act before reset" in replies[2]


def test_a_policy_server_asked_for_a_robot_says_so() -> None:
    with serve_policy(HoldPolicy) as server, pytest.raises(ProtocolError, match="is no robot server"):
        RemoteRobot(server.address)

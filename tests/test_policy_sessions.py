"""Sessions with a policy over gRPC: in time or told so, each reply once and in order, whatever others do."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from embodied.bridge.address import PROTOCOL
from embodied.bridge.codec import encode_observation, encode_spec
from embodied.bridge.envelope import pack
from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.policy_server import MAX_SESSIONS, PolicyServer, serve_policy
from embodied.bridge.policy_session import READ_AHEAD
from embodied.errors import EmbodiedError, InvalidObservationError, LateError, ProtocolError
from embodied.types import Action, Observation, TextAction
from embodied.v1 import policy_pb2 as pb
from embodied.v1 import types_pb2 as types_pb
from policies.hold import HoldPolicy
from tests.dummy_robot import DummyRobot
from tests.faults.processes import process
from tests.gated_policy import Gate, GatedBatching, GatedPolicy
from tests.policy_contract import random_observation

ROOT = Path(__file__).parents[1]
SPEC = DummyRobot().spec


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def server(gate: Gate) -> Iterator[PolicyServer]:
    with serve_policy(lambda: GatedBatching(gate)) as server:
        yield server
        gate.open.set()


def observe(say: str = "go") -> Observation:
    return random_observation(SPEC, 0, say)


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for what another thread brings about; fail if it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)


def begun(server: PolicyServer | str, **options: float) -> RemotePolicy:
    address = server if isinstance(server, str) else server.address
    policy = RemotePolicy(address, **options)  # type: ignore[arg-type]
    policy.reset("go", SPEC)
    return policy


def occupy(policy: RemotePolicy, gate: Gate, threads: ThreadPoolExecutor) -> Future[object]:
    """Let the policy act until the gate opens."""
    future: Future[object] = threads.submit(policy.act, observe("first"))
    assert gate.entered.acquire(timeout=10)
    return future


class RawSession:
    """A client that may say anything at any time."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        stream = self._channel.stream_stream("/embodied.v1.PolicyService/Act")
        self._replies = stream(iter(self._requests.get, None))

    def __enter__(self) -> RawSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self._channel.close()

    def send(self, sequence: int, request: pb.Begin | Observation | bytes, *, within_ns: int = 0) -> None:
        if isinstance(request, bytes):
            self._requests.put(request)
        elif isinstance(request, pb.Begin):
            self._requests.put(pb.ActRequest(sequence=sequence, begin=request).SerializeToString())
        else:
            envelope = pb.ActRequest(sequence=sequence, within_ns=within_ns, observation=encode_observation(request))
            self._requests.put(pack(envelope, request.frames))

    @property
    def sent(self) -> bool:
        """Whether gRPC has taken all; large messages it takes as fast as the server reads them."""
        return self._requests.empty()

    def finish(self) -> list[pb.ActReply]:
        """Say that this was all, and return the replies that are left."""
        self._requests.put(None)
        return [pb.ActReply.FromString(reply) for reply in self._replies]

    def receive(self) -> pb.ActReply:
        return pb.ActReply.FromString(next(self._replies))


def begin(**changes: object) -> pb.Begin:
    request = pb.Begin(instruction="go", spec=encode_spec(SPEC), protocol=PROTOCOL)
    return pb.Begin(**{**{f.name: v for f, v in request.ListFields()}, **changes})


def test_weights_are_loaded_once_for_sessions_that_share_them() -> None:
    made, gate = [], Gate()
    gate.open.set()
    with serve_policy(lambda: made.append(GatedBatching(gate)) or made[0]) as server:  # type: ignore[func-returns-value]
        policies = [begun(server) for _ in range(3)]
        for policy in policies:
            policy.act(observe())
            policy.close()
    assert len(made) == 1


def test_sessions_that_wait_at_once_share_a_forward_pass(server: PolicyServer, gate: Gate) -> None:
    policies = [begun(server) for _ in range(MAX_SESSIONS)]
    with ThreadPoolExecutor(MAX_SESSIONS) as threads:
        futures = [occupy(policies[0], gate, threads)]
        futures += [threads.submit(policy.act, observe(f"say {i}")) for i, policy in enumerate(policies[1:])]
        wait_until(lambda: server.waiting == MAX_SESSIONS - 1)
        gate.open.set()
        answers = [future.result(10) for future in futures]
    assert answers[1:] == [(TextAction(f"say {i}"),) for i in range(MAX_SESSIONS - 1)]
    assert [len(together) for together in gate.together] == [1, MAX_SESSIONS - 1]
    assert all(policy.timing_ns["queue"] > 0 for policy in policies)
    for policy in policies:
        policy.close()


def test_an_answer_that_would_be_late_is_an_error_in_time_and_the_session_goes_on(
    server: PolicyServer, gate: Gate
) -> None:
    with begun(server, within_s=0.1) as policy:
        started_s = time.monotonic()
        with pytest.raises(LateError, match="not answered within the 100 ms"):
            policy.act(observe("slow"))
        assert time.monotonic() - started_s < 5  # the gate is closed still
        gate.open.set()
        wait_until(lambda: gate.inside == 0)
        assert policy.act(observe("next")) == (TextAction("next"),)


@pytest.mark.parametrize("within_s", [0.0, -1.0, np.nan, np.inf])
def test_a_deadline_that_is_none_is_refused(server: PolicyServer, within_s: float) -> None:
    with pytest.raises(ProtocolError, match="within_s must be above 0"):
        RemotePolicy(server.address, within_s=within_s)


def test_every_request_gets_one_reply_in_order_and_the_newest_observation_an_answer(
    server: PolicyServer, gate: Gate
) -> None:
    count = 3 * READ_AHEAD  # more than the server listens to ahead
    with RawSession(server.address) as client:
        client.send(7, begin())
        client.send(8, observe("first"))
        assert gate.entered.acquire(timeout=10)
        for index in range(count):
            client.send(100 + index, observe(str(index)))
        client.send(0, b"\xff" * 40)
        client.send(9, observe(), within_ns=-1)
        wait_until(lambda: server.table.dropped >= READ_AHEAD - 3)  # of those that it hears ahead, all but the newest
        gate.open.set()
        replies = client.finish()
    kinds = [reply.WhichOneof("reply") for reply in replies]
    assert [reply.sequence for reply in replies] == [7, 8, *range(100, 100 + count), 0, 9]
    assert kinds[:2] == ["begun", "actions"] and kinds[-3:] == ["actions", "error", "error"]
    late = [reply.error for reply in replies[2:-2] if reply.WhichOneof("reply") == "error"]
    assert {error.code for error in late} == {types_pb.ERROR_CODE_LATE}
    assert READ_AHEAD - 3 <= len(late) < count
    assert replies[-2].error.message.startswith("not a ActRequest")
    assert "within_ns is -1" in replies[-1].error.message


def test_each_reply_says_what_it_took_and_how_many_shared_the_pass(server: PolicyServer, gate: Gate) -> None:
    gate.open.set()
    with RawSession(server.address) as client:
        client.send(1, begin())
        client.send(2, observe())
        _, acted = client.finish()
    assert acted.timing.batch == 1 and acted.timing.work_ns > 0 and acted.timing.queue_ns > 0


def test_what_one_session_gets_wrong_is_its_own_matter(server: PolicyServer, gate: Gate) -> None:
    policies = [begun(server) for _ in range(4)]
    wrong = observe("wrong")
    wrong.state[0] = np.nan
    with ThreadPoolExecutor(4) as threads:
        first = occupy(policies[0], gate, threads)
        refused = threads.submit(policies[1].act, wrong)
        fine = threads.submit(policies[2].act, observe("fine"))
        wait_until(lambda: server.waiting == 2)
        policies[3].close()
        gate.open.set()
        assert first.result(10) and fine.result(10) == (TextAction("fine"),)
        with pytest.raises(InvalidObservationError):
            refused.result(10)
    assert policies[1].act(observe("again")) == (TextAction("again"),)
    for policy in policies:
        policy.close()


def test_a_session_that_is_closed_in_the_middle_of_a_batch_leaves_the_others_be(
    server: PolicyServer, gate: Gate
) -> None:
    policies = [begun(server) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        acting = occupy(policies[0], gate, threads)
        waiting = threads.submit(policies[1].act, observe("waiting"))
        stays = threads.submit(policies[2].act, observe("stays"))
        wait_until(lambda: server.waiting == 2)
        for policy in policies[:2]:
            policy.close()
        wait_until(lambda: server.waiting == 1)
        for future in (acting, waiting):
            with pytest.raises(ProtocolError):
                future.result(10)
        gate.open.set()
        assert stays.result(10) == (TextAction("stays"),)
    assert gate.together == [["first"], ["stays"]]
    policies[2].close()


def test_a_client_that_is_killed_while_it_waits_takes_nothing_with_it(server: PolicyServer, gate: Gate) -> None:
    doomed = MAX_SESSIONS - 1
    code = (
        "import threading; from embodied.bridge.policy_client import RemotePolicy\n"
        "from tests.dummy_robot import DummyRobot\n"
        "robot = DummyRobot(); seen = robot.reset(0, 'wait')\n"
        f"policies = [RemotePolicy({server.address!r}) for _ in range({doomed})]\n"
        "for policy in policies: policy.reset('go', robot.spec)\n"
        "print('begun', flush=True); input()\n"
        "for policy in policies: threading.Thread(target=policy.act, args=(seen,)).start()"
    )
    stays, pipe = begun(server), subprocess.PIPE
    client = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert client.stdin is not None and client.stdout is not None and client.stdout.readline() == "begun\n"
    with ThreadPoolExecutor(1) as threads:
        first = occupy(stays, gate, threads)
        client.stdin.write("act\n")
        client.stdin.flush()
        wait_until(lambda: server.waiting == doomed)
        client.send_signal(signal.SIGKILL)
        client.communicate()
        wait_until(lambda: server.waiting == 0)
        gate.open.set()
        assert first.result(10) == (TextAction("first"),)
    assert gate.together == [["first"]]
    with begun(server) as again:  # there is room again
        assert again.act(observe("again")) == (TextAction("again"),)
    stays.close()


GATED = """
import signal
from embodied.bridge.policy_server import serve_policy
from tests.faults.processes import process
from tests.gated_policy import Gate, GatedBatching
gate = Gate()
signal.signal(signal.SIGUSR1, lambda *_: gate.open.set())
with serve_policy(lambda: GatedBatching(gate)) as server:
    print(server.address, flush=True)
    gate.entered.acquire()
    print("entered", flush=True)
    server.wait()
"""


@pytest.mark.parametrize("what", ["fine", "with a deadline that is none", "malformed", "beginnings"])
def test_a_flood_that_nobody_reads_the_replies_of_is_not_kept_in_memory(what: str) -> None:
    frames = {"front": np.zeros((1000, 1000, 3), np.uint8)}  # 3 MB, as are the others
    request: bytes | Observation = Observation(0, frames, observe().state, "flood")
    if what == "malformed":
        request = b"\x12" + b"\xff" * 3_000_000
    elif what == "beginnings":
        request = pb.ActRequest(begin=begin(instruction="x" * 3_000_000)).SerializeToString()
    with process("-c", GATED) as server:  # the client, which has 180 MB to send, is this process
        address = server.line()
        with RawSession(address) as client, begun(address) as other:
            client.send(1, begin())
            assert client.receive().WhichOneof("reply") == "begun"
            client.send(2, observe("first"))
            assert server.line() == "entered"
            before_mb = server.peak_mb
            for index in range(60):  # fewer than it listens to ahead
                client.send(index, request, within_ns=0 if what == "fine" else -1)
            wait_until(lambda: client.sent)
            server.send(signal.SIGUSR1)
            assert other.act(observe("other")) == (TextAction("other"),)
            assert len(client.finish()) == 61
            assert server.peak_mb - before_mb < 100


@pytest.mark.parametrize("within_ns", [2**63 - 1, 2**62])
def test_a_deadline_in_centuries_is_no_deadline(server: PolicyServer, gate: Gate, within_ns: int) -> None:
    gate.open.set()
    with RawSession(server.address) as client:
        client.send(1, begin())
        client.send(2, observe(), within_ns=within_ns)
        assert [reply.WhichOneof("reply") for reply in client.finish()] == ["begun", "actions"]


def test_a_policy_that_breaks_its_contract_is_told_of_and_goes_on(gate: Gate) -> None:
    class Careless(GatedBatching):
        def fork(self) -> Careless:
            return Careless(self.gate)

        def act(self, observation: Observation) -> Sequence[Action]:
            if observation.instruction == "leave":
                sys.exit("bye")
            return None if observation.instruction == "nothing" else super().act(observation)  # type: ignore[return-value]

        @classmethod
        def act_together(
            cls, policies: Sequence[GatedBatching], observations: Sequence[Observation]
        ) -> list[Sequence[Action] | EmbodiedError]:
            return super().act_together(policies, observations)[1:]

    with serve_policy(lambda: Careless(gate)) as server, ThreadPoolExecutor(3) as threads:
        policies = [begun(server) for _ in range(3)]
        first = occupy(policies[0], gate, threads)
        others = [threads.submit(policy.act, observe()) for policy in policies[1:]]
        wait_until(lambda: server.waiting == 2)
        gate.open.set()
        assert first.result(10) == (TextAction("first"),)
        for other in others:
            with pytest.raises(ProtocolError, match="1 answers to 2 observations"):
                other.result(10)
        for _ in range(5):  # by the lane, and then by the thread that hears it
            for say, why in (("leave", "SystemExit: bye"), ("nothing", "act returned None")):
                with pytest.raises(ProtocolError, match=why):
                    policies[0].act(observe(say))
            assert policies[0].act(observe("fine")) == (TextAction("fine"),)
        for policy in policies:
            policy.close()


def test_a_version_and_a_robot_that_differ_are_refused_with_every_difference(gate: Gate) -> None:
    class Trained(HoldPolicy):
        spec, chunk = SPEC, 1

    other = encode_spec(SPEC)
    other.control_hz, other.action[0].unit = 3.0, "furlong"
    with serve_policy(Trained) as server, RawSession(server.address) as client:
        client.send(1, begin())
        client.send(2, begin(protocol=99))
        client.send(3, observe())
        client.send(4, begin(protocol=99, spec=other))
        replies = client.finish()
    assert [reply.WhichOneof("reply") for reply in replies] == ["begun", "error", "error", "error"]
    assert replies[1].error.message == "the client speaks version 99 of the protocol, the policy server 2"
    assert replies[2].error.message.startswith("act before reset")  # not the old episode
    assert replies[3].error.code == types_pb.ERROR_CODE_SPEC_MISMATCH
    for what in ("version 99", "control_hz", "action.pan.unit"):
        assert what in replies[3].error.message


@pytest.mark.parametrize("frames", [None, "raw", "shared", "jpeg:95"])
def test_frames_cross_as_agreed_at_the_first_beginning(frames: str | None) -> None:
    seen: list[Observation] = []

    class Seeing(HoldPolicy):
        def act(self, observation: Observation) -> list[Action]:
            seen.append(observation)
            return [*super().act(observation)]

    with serve_policy(Seeing) as server, RemotePolicy(server.address, frames=frames) as policy:
        with pytest.raises(EmbodiedError):
            policy.reset("go", DummyRobot().spec.from_dict({**SPEC.to_dict(), "state": SPEC.to_dict()["state"][1:]}))
        for _ in range(2):
            policy.reset("go", SPEC)
            for _ in range(3):
                policy.act(observe())
    for observation in seen:
        for name, frame in observe().frames.items():
            if frames == "jpeg:95":
                assert observation.frames[name].shape == frame.shape
            else:
                np.testing.assert_array_equal(observation.frames[name], frame)


def test_an_offer_that_comes_twice_or_cannot_be_met_is_refused() -> None:
    offer = types_pb.FrameOffer(encodings=[types_pb.FRAME_ENCODING_RAW])
    unknown = types_pb.FrameOffer(encodings=[types_pb.FRAME_ENCODING_SHARED])
    with serve_policy(HoldPolicy) as server, RawSession(server.address) as client:
        said = []
        for sequence, frames in enumerate((unknown, offer, offer)):
            client.send(sequence, begin(frames=frames))
            reply = client.receive()
            said.append(reply.error.message or reply.begun.frames.encoding)
    assert "cannot cross in any way that the client offers" in said[0]
    assert said[1] == types_pb.FRAME_ENCODING_RAW
    assert "agreed on already" in said[2]


def test_a_server_that_answers_something_else_ends_the_session() -> None:
    def describe(request: bytes, context: grpc.ServicerContext) -> bytes:
        return pb.DescribePolicyReply(protocol=PROTOCOL, name="liar").SerializeToString()

    def act(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for number, _ in enumerate(requests):
            sequence = 1 if number == 0 else 99
            yield pb.ActReply(sequence=sequence, begun=pb.Begun()).SerializeToString()

    handlers = {
        "Describe": grpc.unary_unary_rpc_method_handler(describe),
        "Act": grpc.stream_stream_rpc_method_handler(act),
    }
    liar = grpc.server(ThreadPoolExecutor(2))
    liar.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("embodied.v1.PolicyService", handlers),))
    port = liar.add_insecure_port("127.0.0.1:0")
    liar.start()
    with RemotePolicy(f"127.0.0.1:{port}") as policy:
        policy.reset("go", SPEC)
        with pytest.raises(ProtocolError, match="answered request 2 with begun to request 99, not with actions"):
            policy.act(observe())
        with pytest.raises(ProtocolError, match="connect again"):
            policy.act(observe())
    liar.stop(None).wait()


def test_a_server_stops_while_its_policy_acts_and_clients_wait(gate: Gate) -> None:
    with ThreadPoolExecutor(3) as threads:
        server = serve_policy(lambda: GatedPolicy(gate))
        policies = [begun(server) for _ in range(2)]
        futures = [occupy(policies[0], gate, threads), threads.submit(policies[1].act, observe())]
        wait_until(lambda: server.waiting == 1)
        stopping = threads.submit(server.stop)
        for future in futures:
            with pytest.raises(ProtocolError, match=r"went away|ended the session"):
                future.result(10)
        gate.open.set()
        stopping.result(10)
        for policy in policies:
            policy.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("policy-")] == []

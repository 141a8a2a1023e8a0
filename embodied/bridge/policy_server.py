"""Serves a policy over gRPC: Describe, and sessions of observations to action chunks, a policy of its own each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import grpc

from embodied.bridge.address import DEFAULT_ADDRESS, PROTOCOL
from embodied.bridge.codec import decode_observation, decode_spec, encode_actions, encode_spec
from embodied.bridge.credentials import OPEN_SERVER, ServerCredentials
from embodied.bridge.envelope import unpack
from embodied.bridge.refusals import encode_error
from embodied.bridge.server import BridgeServer
from embodied.errors import EmbodiedError, ProtocolError
from embodied.types import Frame, Observation, Policy, RobotSpec
from embodied.v1 import policy_pb2 as pb

MAX_SESSIONS = 8
SPARE_THREADS = 4  # answer Describe and refuse sessions when all are taken

log = logging.getLogger(__name__)


@runtime_checkable
class TrainedPolicy(Policy, Protocol):
    """A policy that says what it was trained for; Describe passes it on."""

    @property
    def spec(self) -> RobotSpec:
        """Return the robot it was trained with."""

    @property
    def chunk(self) -> int:
        """Return how many actions act returns."""


class PolicyPool:
    """Policies that sessions borrow: made when none is idle, kept for the next session, never shared by two at once."""

    def __init__(self, make_policy: Callable[[], Policy]) -> None:
        self._make = make_policy
        self._room = threading.BoundedSemaphore(MAX_SESSIONS)
        self._lock = threading.Lock()
        self.first = make_policy()  # now, so that a bad checkpoint is the server's failure and not a client's
        self._idle = [self.first]

    @contextmanager
    def borrow(self) -> Iterator[Policy | None]:
        """Lend a policy for a session, or None where all rooms are taken."""
        if not self._room.acquire(blocking=False):
            yield None
            return
        try:
            policy = self._take()
            try:
                yield policy
            finally:
                with self._lock:
                    self._idle.append(policy)
        finally:
            self._room.release()

    def _take(self) -> Policy:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._make()


class PolicyService:
    """The methods of PolicyService for one pool of policies, named as in the schema."""

    def __init__(self, name: str, pool: PolicyPool) -> None:
        self._name = name
        self._pool = pool

    def Describe(  # noqa: N802
        self, request: pb.DescribePolicyRequest, context: grpc.ServicerContext
    ) -> pb.DescribePolicyReply:
        """Say what the policy is called and what it was trained for."""
        reply = pb.DescribePolicyReply(protocol=PROTOCOL, name=self._name)
        if isinstance(self._pool.first, TrainedPolicy):
            reply.spec.CopyFrom(encode_spec(self._pool.first.spec))
            reply.chunk = self._pool.first.chunk
        return reply

    def Act(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: N802
        """Answer one session's requests in order."""
        with self._pool.borrow() as policy:
            if policy is None:
                context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._name} already serves {MAX_SESSIONS} sessions"
                )
            session = PolicySession(policy)
            for request in requests:
                yield session.answer(request).SerializeToString()


class PolicySession:
    """One session with one policy: begun first, then asked for actions."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._begun = False

    def answer(self, request: bytes) -> pb.ActReply:
        """Return the reply to a request; what the policy refuses is an error reply, and the session goes on."""
        try:
            return self._carry_out(*unpack(pb.ActRequest, request))
        except EmbodiedError as error:
            return pb.ActReply(error=encode_error(error))
        except Exception as error:  # the policy's own failure: the client is told, the server lives
            log.exception("the policy failed")
            return pb.ActReply(error=encode_error(error))

    def _carry_out(self, request: pb.ActRequest, frames: Mapping[str, Frame]) -> pb.ActReply:
        kind = request.WhichOneof("request")
        if kind == "begin":
            return self._begin(request.begin)
        if kind == "observation":
            return self._act(decode_observation(request.observation, frames))
        raise ProtocolError("a request of no kind that this server knows; it knows begin and observation")

    def _begin(self, request: pb.Begin) -> pb.ActReply:
        self._begun = False  # a refused beginning leaves no episode to go on with
        started_ns = time.monotonic_ns()
        self._policy.reset(request.instruction, decode_spec(request.spec))
        self._begun = True
        return pb.ActReply(begun=pb.Begun(), timing=_since(started_ns))

    def _act(self, observation: Observation) -> pb.ActReply:
        if not self._begun:  # the policy may still remember an earlier session's episode
            raise ProtocolError("act before reset: begin an episode first")
        started_ns = time.monotonic_ns()
        actions = self._policy.act(observation)
        return pb.ActReply(actions=encode_actions(actions), timing=_since(started_ns))


class PolicyServer(BridgeServer):
    """A running policy server."""


def serve_policy(
    make_policy: Callable[[], Policy],
    address: str = DEFAULT_ADDRESS,
    *,
    name: str = "policy",
    insecure: bool = False,
    credentials: ServerCredentials = OPEN_SERVER,
) -> PolicyServer:
    """Serve policies made by make_policy at address (host:port or unix:/path), one a session and reused after it.

    The first is made before this returns, and what make_policy raises comes through. Raise EmbodiedError if the address
    is taken, or as BridgeServer does for its credentials.
    """
    server = PolicyServer(address, threads=MAX_SESSIONS + SPARE_THREADS, insecure=insecure, credentials=credentials)
    try:
        service = PolicyService(name, PolicyPool(make_policy))
    except BaseException:
        server.stop()
        raise
    server.start(pb.DESCRIPTOR.services_by_name["PolicyService"], service, lambda: None)
    return server


def _since(started_ns: int) -> pb.ServerTiming:
    return pb.ServerTiming(work_ns=time.monotonic_ns() - started_ns)

"""Serves a policy over gRPC: Describe, and sessions of observations to action chunks, a policy of its own each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import grpc

from embodied.bridge.address import DEFAULT_ADDRESS, PROTOCOL
from embodied.bridge.batching import Batching, Seat, Table
from embodied.bridge.codec import encode_spec
from embodied.bridge.credentials import OPEN_SERVER, ServerCredentials
from embodied.bridge.origin import encode_origin
from embodied.bridge.policy_session import PolicySession
from embodied.bridge.server import BridgeServer
from embodied.origin import Origin
from embodied.types import Policy, RobotSpec
from embodied.v1 import policy_pb2 as pb

MAX_SESSIONS = 8
SPARE_THREADS = 4  # answer Describe and refuse sessions when all are taken


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
    """Policies that sessions borrow: made when none is idle, kept for the next session, never shared by two at once.

    A Batching policy is made once and forked, so that its weights are loaded once.
    """

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
        return self.first.fork() if isinstance(self.first, Batching) else self._make()


class PolicyService:
    """The methods of PolicyService for one pool of policies, named as in the schema."""

    def __init__(self, name: str, pool: PolicyPool, table: Table, origin: Origin | None) -> None:
        self._name, self._pool, self._table, self._origin = name, pool, table, origin
        self._spec = pool.first.spec if isinstance(pool.first, TrainedPolicy) else None

    def Describe(  # noqa: N802
        self, request: pb.DescribePolicyRequest, context: grpc.ServicerContext
    ) -> pb.DescribePolicyReply:
        """Say what the policy is called and what it was trained for."""
        reply = pb.DescribePolicyReply(protocol=PROTOCOL, name=self._name)
        if isinstance(self._pool.first, TrainedPolicy):
            reply.spec.CopyFrom(encode_spec(self._pool.first.spec))
            reply.chunk = self._pool.first.chunk
        if self._origin is not None:
            reply.origin.CopyFrom(encode_origin(self._origin))
        return reply

    def Act(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: N802
        """Hold one session."""
        with self._pool.borrow() as policy:
            if policy is None:
                context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._name} already serves {MAX_SESSIONS} sessions"
                )
            session = PolicySession(Seat(policy), self._table, self._spec)
            if not context.add_callback(session.leave):  # the client is gone already
                return
            yield from session.replies(requests)


class PolicyServer(BridgeServer):
    """A running policy server."""

    table: Table

    @property
    def waiting(self) -> int:
        """Return how many requests wait for the policy."""
        return self.table.waiting


def serve_policy(
    make_policy: Callable[[], Policy],
    address: str = DEFAULT_ADDRESS,
    *,
    name: str = "policy",
    lanes: int = 1,
    insecure: bool = False,
    credentials: ServerCredentials = OPEN_SERVER,
    origin: Callable[[], Origin | None] = lambda: None,
) -> PolicyServer:
    """Serve policies made by make_policy at address (host:port or unix:/path), one a session and reused after it.

    The first is made before this returns, and what make_policy raises comes through. Sessions of a Batching policy
    share its forward passes; lanes is how many passes run side by side, each on a thread of its own. origin,
    asked once the first is made, is told to whoever asks for a description. Raise EmbodiedError if the address is
    taken, or as BridgeServer does for its credentials.
    """
    server = PolicyServer(address, threads=MAX_SESSIONS + SPARE_THREADS, insecure=insecure, credentials=credentials)
    try:
        pool = PolicyPool(make_policy)
    except BaseException:
        server.stop()
        raise
    server.table = Table(lanes=lanes, room=MAX_SESSIONS)
    service = PolicyService(name, pool, server.table, origin())
    server.start(pb.DESCRIPTOR.services_by_name["PolicyService"], service, server.table.close)
    return server

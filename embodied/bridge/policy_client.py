"""A policy in another process, used through the same Policy protocol as a local one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from embodied.bridge.codec import decode_actions, decode_spec, encode_observation, encode_spec, require_text
from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials
from embodied.bridge.envelope import pack, parse
from embodied.bridge.lockstep import LockStep
from embodied.bridge.peer import Peer
from embodied.bridge.refusals import decode_error
from embodied.errors import ProtocolError
from embodied.types import Action, Observation, RobotSpec
from embodied.v1 import policy_pb2 as pb


@dataclass(frozen=True)
class PolicyDescription:
    """What a policy server says of its policy."""

    name: str
    spec: RobotSpec | None  # the robot it was trained with; None: it says nothing, as for one that takes any robot
    chunk: int  # actions in a reply; 0: not fixed


class RemotePolicy:
    """A Policy behind an address. The first reset begins the session and close ends it."""

    def __init__(
        self,
        address: str,
        *,
        credentials: ClientCredentials = OPEN_CLIENT,
        connect_timeout_s: float = 5.0,
        reply_timeout_s: float = 60.0,
    ) -> None:
        """Connect and ask what the policy is; raise ProtocolError if none answers or it speaks another version."""
        self._peer = Peer(address, pb.DESCRIPTOR.services_by_name["PolicyService"], "policy server", credentials)
        self._reply_timeout_s = reply_timeout_s
        self._opening = threading.Lock()
        self._session: LockStep | None = None
        self._closed = False
        self._work_ms = 0.0
        try:
            described = self._peer.describe(pb.DescribePolicyRequest(), connect_timeout_s)
            spec = decode_spec(described.spec) if described.HasField("spec") else None
            self._description = PolicyDescription(described.name, spec, described.chunk)
        except BaseException:
            self._peer.close()
            raise

    @property
    def description(self) -> PolicyDescription:
        """Return what the policy is called and what it was trained for."""
        return self._description

    @property
    def work_ms(self) -> float:
        """Return how long the policy itself worked on the last reply; the rest of a call's time is the wire's."""
        return self._work_ms

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode, as the local policy would."""
        begin = pb.Begin(instruction=require_text(instruction), spec=encode_spec(spec))
        self._exchange(pb.ActRequest(begin=begin).SerializeToString())

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next actions, as the local policy would."""
        request = pb.ActRequest(observation=encode_observation(observation))
        reply = self._exchange(pack(request, observation.frames))
        actions = decode_actions(reply.actions)
        if not actions:
            raise ProtocolError(f"policy server at {self._peer.address} replied without actions")
        return actions

    def close(self) -> None:
        """End the session and the connection; idempotent."""
        with self._opening:
            if self._closed:
                return
            self._closed = True
            if self._session is not None:
                self._session.close()
            self._peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _exchange(self, request: bytes) -> pb.ActReply:
        reply = parse(pb.ActReply, (self._session or self._open()).exchange(request))
        if reply.WhichOneof("reply") == "error":
            raise decode_error(reply.error)
        self._work_ms = reply.timing.work_ns / 1e6
        return reply

    def _open(self) -> LockStep:
        with self._opening:
            if self._closed:
                raise ProtocolError(f"the connection to {self._peer.address} is closed")
            if self._session is None:
                self._session = LockStep(self._peer, "Act", self._reply_timeout_s)
            return self._session

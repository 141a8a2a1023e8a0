"""A policy in another process, used through the same Policy protocol as a local one."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from embodied.bridge.address import PROTOCOL
from embodied.bridge.codec import decode_actions, decode_spec, encode_observation, encode_spec, require_text
from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials
from embodied.bridge.envelope import pack, parse
from embodied.bridge.frames import FrameCodec, FrameWish
from embodied.bridge.lockstep import LockStep
from embodied.bridge.origin import decode_origin
from embodied.bridge.peer import Peer
from embodied.bridge.refusals import decode_error
from embodied.errors import ProtocolError
from embodied.origin import Origin
from embodied.types import Action, Frame, Observation, RobotSpec
from embodied.v1 import policy_pb2 as pb

NO_FRAMES: Mapping[str, Frame] = MappingProxyType({})


@dataclass(frozen=True)
class PolicyDescription:
    """What a policy server says of its policy."""

    name: str
    spec: RobotSpec | None  # the robot it was trained with; None: it says nothing, as for one that takes any robot
    chunk: int  # actions in a reply; 0: not fixed
    origin: Origin = field(default_factory=Origin)  # what the server says that it was made from


class RemotePolicy:
    """A Policy behind an address. The first reset begins the session and close ends it."""

    def __init__(
        self,
        address: str,
        *,
        credentials: ClientCredentials = OPEN_CLIENT,
        within_s: float | None = None,
        frames: str | None = None,
        connect_timeout_s: float = 5.0,
        reply_timeout_s: float = 60.0,
    ) -> None:
        """Connect and ask what the policy is; raise ProtocolError if none answers or it speaks another version.

        An observation that the server has not answered within_s of its arrival is answered no more: act raises
        LateError. None: it may take until reply_timeout_s, which ends the session. frames says how they cross
        (raw, jpeg, jpeg:QUALITY or shared) and must be had; by default it is through shared memory where that works,
        else raw.
        """
        FrameWish.parse(frames)
        if within_s is not None and not 0 < within_s < math.inf:
            raise ProtocolError(f"within_s must be above 0, got {within_s}; None for no deadline")
        self._peer = Peer(address, pb.DESCRIPTOR.services_by_name["PolicyService"], "policy server", credentials)
        self._within_ns = 0 if within_s is None else max(round(within_s * 1e9), 1)
        self._frames = frames
        self._reply_timeout_s = reply_timeout_s
        self._opening = threading.Lock()
        self._session: PolicyConversation | None = None
        self._closed = False
        self._timing_ns: Mapping[str, int] = {}
        try:
            described = self._peer.describe(pb.DescribePolicyRequest(), connect_timeout_s)
            spec = decode_spec(described.spec) if described.HasField("spec") else None
            origin = decode_origin(described.origin)
            self._description = PolicyDescription(described.name, spec, described.chunk, origin)
        except BaseException:
            self._peer.close()
            raise

    @property
    def description(self) -> PolicyDescription:
        """Return what the policy is called and what it was trained for."""
        return self._description

    @property
    def timing_ns(self) -> Mapping[str, int]:
        """Return what the last reply took: "queue" waiting for the policy, "work" inside it, "wire" all the rest."""
        return self._timing_ns

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode, as the local policy would."""
        begin = pb.Begin(instruction=require_text(instruction), spec=encode_spec(spec), protocol=PROTOCOL)
        session = self._session or self._open()
        self._timing_ns = session.begin(begin, spec)

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next actions, as the local policy would; also raise LateError, see within_s."""
        request = pb.ActRequest(observation=encode_observation(observation), within_ns=self._within_ns)
        session = self._session or self._open()
        reply, self._timing_ns = session.exchange(request, "actions", observation.frames)
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

    def _open(self) -> PolicyConversation:
        with self._opening:
            if self._closed:
                raise ProtocolError(f"the connection to {self._peer.address} is closed")
            if self._session is None:
                self._session = PolicyConversation(self._peer, self._frames, self._reply_timeout_s)
            return self._session


class PolicyConversation:
    """The client's end of one session."""

    def __init__(self, peer: Peer, frames: str | None, reply_timeout_s: float) -> None:
        self._frames = frames
        self._stream = LockStep(peer, "Act", reply_timeout_s, alive=("Describe", pb.DescribePolicyRequest()))
        self._codec: FrameCodec | None = None  # None: how frames cross is not agreed on yet
        self._sequence = itertools.count(1)

    def begin(self, begin: pb.Begin, spec: RobotSpec) -> Mapping[str, int]:
        """Begin an episode, the first with an offer of how frames may cross; return what it took."""
        if self._codec is not None:
            return self.exchange(pb.ActRequest(begin=begin), "begun")[1]
        codec, offer = FrameCodec.offer(spec.cameras, self._frames)
        begin.frames.CopyFrom(offer)
        try:
            reply, timing_ns = self.exchange(pb.ActRequest(begin=begin), "begun")
            codec.settle(reply.begun.frames)
        except BaseException:
            codec.close()
            raise
        self._codec = codec
        return timing_ns

    def exchange(
        self, request: pb.ActRequest, kind: str, frames: Mapping[str, Frame] = NO_FRAMES
    ) -> tuple[pb.ActReply, Mapping[str, int]]:
        """Return the reply, which must be of this kind, and what it took.

        Raise what the policy refused with, and ProtocolError, ending the session, for a reply to something else.
        """
        request.sequence = next(self._sequence)
        data = pack(request, frames) if self._codec is None else self._codec.pack(request, frames)
        sent_ns = time.monotonic_ns()
        reply = parse(pb.ActReply, self._stream.exchange(data))
        round_trip_ns = time.monotonic_ns() - sent_ns
        if reply.WhichOneof("reply") == "error":
            raise decode_error(reply.error)
        if reply.sequence != request.sequence or reply.WhichOneof("reply") != kind:
            self.close()
            raise ProtocolError(
                f"the policy server answered request {request.sequence} with {reply.WhichOneof('reply')} to request "
                f"{reply.sequence}, not with {kind}; the session is over"
            )
        queue_ns, work_ns = reply.timing.queue_ns, reply.timing.work_ns
        return reply, {"queue": queue_ns, "work": work_ns, "wire": round_trip_ns - queue_ns - work_ns}

    def close(self) -> None:
        """End the session; idempotent."""
        self._stream.close()
        if self._codec is not None:
            self._codec.close()

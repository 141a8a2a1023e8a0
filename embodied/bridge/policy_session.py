"""One session with a policy: heard on a thread of its own, answered in order, each request exactly once."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import grpc

from embodied.bridge.address import PROTOCOL
from embodied.bridge.batching import Beginning, Outcome, Seat, Table, Ticket, Turn
from embodied.bridge.codec import decode_observation, decode_spec, encode_actions
from embodied.bridge.frames import FrameCodec
from embodied.bridge.refusals import encode_error, without_traceback
from embodied.errors import EmbodiedError, ProtocolError, SpecMismatchError
from embodied.types import Frame, Observation, RobotSpec
from embodied.v1 import policy_pb2 as pb
from embodied.v1 import types_pb2 as types_pb

READ_AHEAD = 64  # requests without a reply; then the client is not listened to until it takes some
MAX_BEGIN_BYTES = 256 * 1024  # of the robot and the instruction; as many as are read ahead may wait

# A policy that takes less is asked by the thread that hears and replies: handing a request from thread to thread and
# its outcome back takes 0.1 ms, and for so short a time it does no harm that nobody listens.
QUICK_NS = 2_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pending:
    """A request whose reply is due: it waits for the policy, or was refused at once."""

    sequence: int
    waits: Ticket | Exception
    choice: types_pb.FrameChoice | None = None  # how frames will cross, for the first beginning


class PolicySession:
    """From the first request to the end of the stream."""

    def __init__(self, seat: Seat, table: Table, trained_for: RobotSpec | None) -> None:
        """Sit down; trained_for is what a client's robot must be, None: the policy itself judges."""
        self._seat, self._table, self._trained_for = seat, table, trained_for
        self._pending: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(READ_AHEAD)
        self._over = False
        self._codec = FrameCodec()
        self._offered = False  # frames were negotiated, or are being
        self._quick = False  # the policy was, the last time
        self._ended = False  # there is no more to hear

    def replies(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the replies in the order of the requests; a thread of its own hears them unless the policy is quick."""
        heard = self._hear_all(requests)
        while not self._ended:
            threading.Thread(target=self._listen, args=(heard,), name="policy-listen", daemon=True).start()
            while (pending := self._pending.get()) is not None:
                yield self._reply(pending)
                self._room.release()
            for pending in heard:
                yield self._reply(pending)
                if not self._quick:
                    break

    def leave(self) -> None:
        """Stop listening and waiting, for the stream is over; idempotent."""
        self._over = True
        self._table.leave(self._seat)
        self._room.release()

    def _listen(self, heard: Iterator[Pending]) -> None:
        """Let requests wait as they come, until they end or the policy turns out to be quick."""
        try:
            for pending in heard:
                self._pending.put(pending)
                self._room.acquire()
                if self._over or self._quick:
                    break
        finally:
            self._pending.put(None)

    def _hear_all(self, requests: Iterator[bytes]) -> Iterator[Pending]:
        try:
            for data in requests:
                pending = self._hear(data, time.monotonic_ns())
                del data  # a frame's worth of memory, which the next request can have
                yield pending
        except grpc.RpcError:
            pass  # the stream broke, or so it seems: to gRPC that may look like an end as well, and its callback tells
        finally:
            self._ended = True
            self._codec.close()

    def _hear(self, data: bytes, heard_ns: int) -> Pending:
        request = pb.ActRequest()
        try:
            request, frames = self._codec.unpack(pb.ActRequest, data)
            ticket = Ticket(heard_ns, _due_ns(request.within_ns, heard_ns))
            asked, choice = self._read(request, frames)
        except EmbodiedError as error:
            return Pending(request.sequence, without_traceback(error))
        except Exception as error:  # ours: the client is told, the server lives
            log.exception("a request could not be read")
            return Pending(request.sequence, without_traceback(error))
        turn = Turn(self._seat, asked, ticket)
        if not (self._quick and self._table.take_at_once(turn)):
            self._table.add(turn)
        return Pending(request.sequence, ticket, choice)

    def _read(
        self, request: pb.ActRequest, frames: Mapping[str, Frame]
    ) -> tuple[Beginning | Observation, types_pb.FrameChoice | None]:
        match request.WhichOneof("request"):
            case "begin":
                if (size := request.begin.ByteSize()) > MAX_BEGIN_BYTES:
                    raise ProtocolError(f"a beginning of {size} bytes; at most {MAX_BEGIN_BYTES} are read")
                try:
                    spec, choice = self._agree(request.begin), self._choose_frames(request.begin)
                except EmbodiedError as error:  # in its turn: what was asked for before is still of the old episode
                    return Beginning(request.begin.instruction, error), None
                return Beginning(request.begin.instruction, spec), choice
            case "observation":
                return decode_observation(request.observation, frames), None
        raise ProtocolError("a request of no kind that this server knows; it knows begin and observation")

    def _agree(self, begin: pb.Begin) -> RobotSpec:
        """Return the client's robot; raise SpecMismatchError with all that it and the policy do not agree on."""
        spec = decode_spec(begin.spec)
        found = [] if self._trained_for is None else self._trained_for.differences(spec)
        if begin.protocol != PROTOCOL:
            versions = f"the client speaks version {begin.protocol} of the protocol, the policy server {PROTOCOL}"
            if not found:
                raise ProtocolError(versions)
            found.insert(0, versions)
        if found:
            raise SpecMismatchError("the policy", f"robot {spec.name!r}", found)
        return spec

    def _choose_frames(self, begin: pb.Begin) -> types_pb.FrameChoice | None:
        if not begin.HasField("frames"):
            return None
        if self._offered:
            raise ProtocolError("how frames cross was agreed on already; only a session's first begin may offer")
        codec, choice = FrameCodec.accept(begin.frames, decode_spec(begin.spec).cameras)
        self._codec.close()
        self._codec, self._offered = codec, True
        return choice

    def _reply(self, pending: Pending) -> bytes:
        outcome = Outcome(pending.waits) if isinstance(pending.waits, Exception) else self._table.outcome(pending.waits)
        reply = pb.ActReply(
            sequence=pending.sequence,
            timing=pb.ServerTiming(work_ns=outcome.work_ns, queue_ns=outcome.queue_ns, batch=outcome.batch),
        )
        result = outcome.result
        try:
            if isinstance(result, Exception):
                raise result
            if result is None:
                reply.begun.CopyFrom(pb.Begun(frames=pending.choice))
            else:
                self._quick = outcome.work_ns < QUICK_NS
                reply.actions.CopyFrom(encode_actions(result))
        except Exception as error:
            if pending.choice is not None:
                self._offered = False  # it was refused, so the client knows of no choice and may offer again
            reply.error.CopyFrom(encode_error(error))
        return reply.SerializeToString()


def _due_ns(within_ns: int, heard_ns: int) -> float:
    if within_ns < 0:
        raise ProtocolError(f"within_ns is {within_ns}; it is a duration, or 0 for no deadline")
    return heard_ns + within_ns if within_ns else math.inf

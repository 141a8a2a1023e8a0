"""One operator's control stream: heard on a thread of its own, carried out on the robot's, answered in order."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import grpc

from embodied.bridge.address import PROTOCOL
from embodied.bridge.audience import Seen
from embodied.bridge.codec import decode_actions, decode_spec, encode_observation, encode_step
from embodied.bridge.envelope import parse
from embodied.bridge.frames import FrameCodec
from embodied.bridge.lease import LeaseHeldError
from embodied.bridge.refusals import encode_error
from embodied.bridge.robot_host import RobotHost
from embodied.errors import EmbodiedError, ProtocolError, SpecMismatchError
from embodied.stages import QUEUE, ROBOT
from embodied.types import Intervention, Observation, Step
from embodied.v1 import robot_pb2 as pb

MAX_WAITING = 16  # requests whose reply was not taken yet; an operator has one
OPEN_TIMEOUT_S = 5.0  # a stream that nothing was opened on takes room from others
END_GRACE_S = 1.0  # for the operator to take its last replies before the stream is cut

log = logging.getLogger(__name__)


@runtime_checkable
class Observable(Protocol):
    """A robot that can be looked at without being moved; one that lives in real time should be."""

    def observe(self, *, frames: bool) -> Observation:
        """Return what the robot senses now."""


class ControlSession:
    """From open to the end of the stream. It holds the lease from its open on, and must reset before it steps."""

    def __init__(self, host: RobotHost, peer: str, cancel: Callable[[], object]) -> None:
        """Begin for the client at peer; cancel cuts the stream."""
        self.over = False
        self.verdict: tuple[grpc.StatusCode, str] | None = None  # None: the operator ended the stream
        self._host, self._peer = host, peer
        self._replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._cut = threading.Timer(END_GRACE_S, cancel)
        self._cut.daemon = True
        self._ending = threading.Lock()
        self._asked = self._answered = 0  # written by one thread each
        self._opened = self._began = False
        self._codec = FrameCodec()
        self._last: Seen | None = None

    def listen(self, requests: Iterator[bytes]) -> None:
        """Take the operator's requests as they come, until they end; runs on a thread of its own."""
        try:
            for request in requests:
                self._hear(request, time.monotonic_ns())
                if self.over:
                    return
        except grpc.RpcError:  # the stream broke; its callback calls leave
            return
        except Exception:
            log.exception("a control stream failed")
            self.end(grpc.StatusCode.INTERNAL, "the robot server failed; its own log says more")
            return
        if self._opened:
            self._host.thread.submit(self._finish)
        else:
            self._replies.put(None)

    def replies(self) -> Iterator[bytes]:
        """Yield the replies in order until the session is over."""
        due_s = time.monotonic() + OPEN_TIMEOUT_S
        while True:
            try:
                left_s = None if self._opened else max(due_s - time.monotonic(), 0.0)
                reply = self._replies.get(timeout=left_s)
            except queue.Empty:
                if not self._opened:
                    self.end(grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing was opened within {OPEN_TIMEOUT_S:g} s")
                continue
            if reply is None:
                return
            yield reply
            self._answered += 1

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """End the stream and say why; the first reason stays. Nothing of it is carried out from now on."""
        with self._ending:
            if self.over:
                return
            self.over = True
            self.verdict = code, details
            self._cut.start()
        self._host.leave(self)
        self._replies.put(None)

    def leave(self) -> None:
        """Let go of the robot, for the stream is over; idempotent."""
        with self._ending:
            self.over = True
            self._cut.cancel()
        self._host.leave(self)
        self._replies.put(None)
        self._host.thread.submit(self._codec.close)

    def _hear(self, data: bytes, heard_ns: int) -> None:
        self._host.hear(self)
        request, refusal = pb.ControlRequest(), None
        try:
            request = parse(pb.ControlRequest, data)
        except ProtocolError as error:
            refusal = error
        if request.WhichOneof("request") == "heartbeat":
            return
        self._asked += 1
        if self._asked - self._answered > MAX_WAITING:
            self.end(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {MAX_WAITING} requests wait for their reply")
        elif self._opened:
            self._host.thread.submit(lambda: self._carry_out(request, heard_ns, refusal))
        elif refusal is not None:
            self._replies.put(self._refuse(request, refusal))
        else:
            self._before_open(request)

    def _before_open(self, request: pb.ControlRequest) -> None:
        try:
            if request.WhichOneof("request") != "open":
                raise ProtocolError("the first request of a control stream must be open")
            self._open(request)
        except LeaseHeldError as error:
            self.end(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except EmbodiedError as error:
            self._replies.put(self._refuse(request, error))

    def _open(self, request: pb.ControlRequest) -> None:
        self._require_agreement(request.open)
        codec, choice = FrameCodec.accept(request.open.frames, self._host.spec.cameras)
        try:
            name = request.open.client or f"a client without a name ({self._peer})"
            self._host.take(self, name, takeover=request.open.takeover)
        except BaseException:
            codec.close()
            raise
        self._codec, self._opened = codec, True
        if self.over:  # the operator has left again; the stream's callback came before there was anything to let go of
            self.leave()
        # By way of the robot's thread: what another operator had begun is over before this one is told to begin.
        opened = pb.ControlReply(sequence=request.sequence, opened=pb.Opened(frames=choice)).SerializeToString()
        self._host.thread.submit(lambda: self._replies.put(opened))

    def _require_agreement(self, request: pb.Open) -> None:
        """Raise what differs between client and server: SpecMismatchError lists all of it, the protocol first."""
        versions = f"the client speaks version {request.protocol} of the protocol, the robot {PROTOCOL}"
        found = []
        if request.HasField("expected"):
            found = decode_spec(request.expected).differences(self._host.spec)
        if found and request.protocol != PROTOCOL:
            found.insert(0, versions)
        if found:
            raise SpecMismatchError("the client", f"robot {self._host.spec.name!r}", found)
        if request.protocol != PROTOCOL:
            raise ProtocolError(versions)

    def _carry_out(self, request: pb.ControlRequest, heard_ns: int, refusal: ProtocolError | None) -> None:
        """Do what is asked and put the reply, on the robot's thread."""
        seen = None
        with self._host.working_for(self):
            if self.over:  # asked only now: what ends it from here on is seen by the watchdog to be in vain
                return
            try:
                if refusal is not None:
                    raise refusal
                seen = self._do(request, heard_ns)
                reply = self._encode(request.sequence, seen)
            except EmbodiedError as error:
                reply = self._refuse(request, error)
            except BaseException as error:  # the robot's own failure: the operator is told, the server lives
                self._host.halt()
                log.exception("%s failed", self._host.spec.name)
                reply = self._refuse(request, error)
        self._replies.put(reply)
        if seen is not None:
            self._last = seen
            self._host.audience.show(seen)

    def _do(self, request: pb.ControlRequest, heard_ns: int) -> Seen:
        self._host.lease.require_since_release(heard_ns / 1e9)
        match request.WhichOneof("request"):
            case "reset":
                return self._reset(request.reset)
            case "step":
                return self._step(request, heard_ns)
            case "open":
                raise ProtocolError("this session is open already")
        raise ProtocolError("a request of no kind that this server knows; it knows open, reset, step and heartbeat")

    def _reset(self, request: pb.Reset) -> Seen:
        self._host.lease.require_may_move(self)
        self._host.spec.require_task(request.task)  # a task that it does not have ends no episode
        begun_s = time.monotonic()
        self._began = False  # an episode whose beginning was cut short is none
        try:
            observation = self._host.thread.robot.reset(request.seed, request.task)
            seen = Seen(time.monotonic_ns(), observation)
        finally:  # where a robot could not begin for an emergency stop, that is why
            self._host.lease.require_unlatched()
            self._host.lease.require_since_release(begun_s)
        self._began = True
        return seen

    def _step(self, request: pb.ControlRequest, heard_ns: int) -> Seen:
        self._host.lease.require_may_move(self)
        if not self._began or self._last is None:  # another operator's episode is not this one's to go on with
            raise ProtocolError("step before reset: begin an episode first")
        actions = decode_actions(request.step.actions)
        begun_ns = time.monotonic_ns()
        if self._is_late(request, begun_ns):
            return self._hold(request, len(actions), begun_ns)
        step = self._host.thread.robot.step(*actions, frames=request.step.frames)
        made_ns = time.monotonic_ns()
        return Seen(made_ns, replace(step, timing_ns=_stages(step.timing_ns, begun_ns - heard_ns, made_ns - begun_ns)))

    def _is_late(self, request: pb.ControlRequest, now_ns: int) -> bool:
        if request.within_ns < 0:
            raise ProtocolError(f"within_ns is {request.within_ns}; it is a duration, or 0 for no deadline")
        if request.within_ns and request.answers_ns > now_ns:
            raise ProtocolError("answers_ns is yet to come by the server's clock; send server_ns of a reply")
        return request.within_ns > 0 and now_ns > request.answers_ns + request.within_ns

    def _hold(self, request: pb.ControlRequest, actions: int, now_ns: int) -> Seen:
        """Stop instead of carrying out what is too late, and show the robot as it is.

        A robot that cannot be looked at without being moved shows its last observation: still true where time is
        simulated; where it is real it keeps the time that it was made at, so that nothing that answers it is in time.
        """
        robot = self._host.thread.robot
        self._host.lease.count_late(actions)
        robot.stop()
        late = Intervention("late", "age_s", (now_ns - request.answers_ns) / 1e9, request.within_ns / 1e9)
        if isinstance(robot, Observable):
            observation, made_ns = robot.observe(frames=request.step.frames), time.monotonic_ns()
        else:
            assert self._last is not None  # there was a reset
            last = self._last.what
            observation = last.observation if isinstance(last, Step) else last
            observation = observation if request.step.frames else replace(observation, frames={})
            made_ns = self._last.server_ns if self._host.spec.realtime else time.monotonic_ns()
        return Seen(made_ns, Step(observation, executed=0, dropped=actions, interventions=(late,)))

    def _encode(self, sequence: int, seen: Seen) -> bytes:
        if isinstance(seen.what, Step):
            reply = pb.ControlReply(sequence=sequence, server_ns=seen.server_ns, step=encode_step(seen.what))
            return self._codec.pack(reply, seen.what.observation.frames)
        reply = pb.ControlReply(sequence=sequence, server_ns=seen.server_ns, observation=encode_observation(seen.what))
        return self._codec.pack(reply, seen.what.frames)

    def _refuse(self, request: pb.ControlRequest, error: BaseException) -> bytes:
        self._host.lease.count_refused()
        return pb.ControlReply(sequence=request.sequence, error=encode_error(error)).SerializeToString()

    def _finish(self) -> None:
        """End the session as its operator asked, everything before that carried out; on the robot's thread."""
        self._host.finish(self)
        self._replies.put(None)


def _stages(told_ns: Mapping[str, int], queue_ns: int, robot_ns: int) -> dict[str, int]:
    """Return the stages of a step on this side: what the robot told of, and what it did not."""
    return {QUEUE: queue_ns, **told_ns, ROBOT: robot_ns - sum(told_ns.values())}

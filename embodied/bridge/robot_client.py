"""A robot in another process, driven through the same Robot protocol as a local one."""

from __future__ import annotations

import itertools
import math
import threading
import time
from dataclasses import replace
from typing import Self

from embodied.bridge.address import PROTOCOL
from embodied.bridge.codec import (
    decode_observation,
    decode_spec,
    decode_step,
    encode_actions,
    encode_spec,
    require_text,
)
from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials
from embodied.bridge.emergency import StopButton
from embodied.bridge.frames import FrameCodec, FrameWish
from embodied.bridge.lease import RobotStatus
from embodied.bridge.lockstep import LockStep
from embodied.bridge.origin import decode_origin
from embodied.bridge.peer import Peer, my_name
from embodied.bridge.refusals import decode_error
from embodied.errors import ProtocolError
from embodied.origin import Origin
from embodied.stages import DECODE, ENCODE, WIRE
from embodied.types import Action, Frame, Observation, RobotSpec, Step
from embodied.v1 import robot_pb2 as pb

STOP_TIMEOUT_S = 5.0
HEARTBEATS_PER_WATCHDOG = 5
HEARTBEAT = pb.ControlRequest(heartbeat=pb.Heartbeat()).SerializeToString()


class RemoteRobot:
    """A Robot behind an address. The first reset takes control of it and close gives it back, stopped.

    Once the session has failed (the robot was taken over, fell silent, went away) every call says so; nothing is ever
    sent again, and only reconnect begins a new session.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: ClientCredentials = OPEN_CLIENT,
        name: str = "",
        takeover: bool = False,
        max_age_s: float | None = None,
        frames: str | None = None,
        connect_timeout_s: float = 5.0,
        reply_timeout_s: float = 60.0,
    ) -> None:
        """Connect and ask what the robot is; raise ProtocolError if none answers or it speaks another version.

        name is shown to whoever finds the robot held, and takeover takes it from who holds it. Actions that reach the
        robot later than max_age_s after the observation that they answer are dropped: by default watchdog_s where time
        is real, and never (math.inf) where it is simulated. frames says how they cross (raw, jpeg, jpeg:QUALITY or
        shared) and must be had; by default it is through shared memory where that works, else raw.
        """
        FrameWish.parse(frames)
        self._peer = Peer(address, pb.DESCRIPTOR.services_by_name["RobotService"], "robot server", credentials)
        self._name = name or my_name()
        self._takeover = takeover
        self._frames = frames
        self._reply_timeout_s = reply_timeout_s
        self._opening = threading.Lock()
        self._session: RobotSession | None = None
        self._closed = False
        try:
            described = self._peer.describe(pb.DescribeRobotRequest(), connect_timeout_s)
            self._spec = decode_spec(described.spec)
            self._origin = decode_origin(described.origin)
            self._within_ns = _within_ns(max_age_s, self._spec)
        except BaseException:
            self._peer.close()
            raise

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    @property
    def origin(self) -> Origin:
        """Return what the server says that the robot was made from; nothing where it does not."""
        return self._origin

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode, as the local robot would; also raise ProtocolError if another operator holds it."""
        if not -(2**63) <= seed < 2**63:
            raise ProtocolError(f"seed {seed} does not fit 64 bits")
        request = pb.ControlRequest(reset=pb.Reset(seed=seed, task=require_text(task)))
        reply, frames, _ = (self._session or self._open(self._takeover)).exchange(request, "observation")
        return decode_observation(reply.observation, frames)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions in order, as the local robot would.

        Too late, none is carried out and the step says so: executed 0, all dropped, an intervention "late".
        timing_ns gains the stages of this side and "wire", all that lies between the two (embodied/stages.py).
        """
        begun_ns = time.monotonic_ns()
        session = self._session or self._open(self._takeover)
        request = pb.ControlRequest(step=pb.StepRequest(actions=encode_actions(actions), frames=frames))
        if self._within_ns:
            request.answers_ns, request.within_ns = session.seen_ns, self._within_ns
        encoded_ns = time.monotonic_ns()
        reply, seen, round_trip_ns = session.exchange(request, "step")
        step = decode_step(reply.step, seen)
        stages = {
            **step.timing_ns,
            ENCODE: encoded_ns - begun_ns,
            WIRE: round_trip_ns - sum(step.timing_ns.values()),
            DECODE: time.monotonic_ns() - encoded_ns - round_trip_ns,
        }
        return replace(step, timing_ns=stages)

    def stop(self) -> None:
        """Come to a controlled stop and hold; needs no control of the robot."""
        if not self._closed:  # closing stopped it
            self._peer.ask("Stop", pb.StopRequest(), STOP_TIMEOUT_S)

    def emergency_stop(self) -> RobotStatus:
        """Stop the robot, latched: steps and resets raise EmergencyStopError until it is released. Needs no control."""
        return StopButton(self._peer, self._name).press()

    def release_emergency_stop(self) -> RobotStatus:
        """Let the robot be moved again."""
        return StopButton(self._peer, self._name).release()

    def status(self) -> RobotStatus:
        """Return who holds the robot, whether it is stopped, and what the server counted."""
        return StopButton(self._peer, self._name).status()

    def reconnect(self, *, takeover: bool = False) -> None:
        """End the session, failed or not, and begin a new one, which must be reset before it is stepped.

        Nothing of the old session is sent again. Raise ProtocolError if another operator holds the robot.
        """
        with self._opening:
            if self._session is not None:
                self._session.close()
        self._open(takeover, again=True)

    def close(self) -> None:
        """End the control stream, which stops the robot, and the connection; the far robot itself stays."""
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

    def _open(self, takeover: bool, *, again: bool = False) -> RobotSession:
        with self._opening:
            if self._closed:
                raise ProtocolError(f"the connection to {self._peer.address} is closed")
            if self._session is None or again:
                opening = pb.Open(
                    protocol=PROTOCOL,
                    client=require_text(self._name),
                    takeover=takeover,
                    expected=encode_spec(self._spec),
                )
                self._session = RobotSession(self._peer, self._spec, opening, self._frames, self._reply_timeout_s)
            return self._session


class RobotSession:
    """One control stream, open: the lease of the robot while it lasts."""

    def __init__(
        self, peer: Peer, spec: RobotSpec, opening: pb.Open, frames: str | None, reply_timeout_s: float
    ) -> None:
        """Open the stream; raise what the robot refuses it with, and EmbodiedError for frames that cannot be had."""
        self._codec, offer = FrameCodec.offer(spec.cameras, frames)
        opening.frames.CopyFrom(offer)
        self.seen_ns = 0  # the server's clock as it made the newest observation that we have
        self._sequence = itertools.count(1)
        self._control = LockStep(
            peer,
            "Control",
            reply_timeout_s,
            alive=("Status", pb.StatusRequest()),
            heartbeat=HEARTBEAT,
            heartbeat_s=spec.watchdog_s / HEARTBEATS_PER_WATCHDOG,
            remedy="call reconnect() or connect again",
        )
        try:
            reply, _, _ = self.exchange(pb.ControlRequest(open=opening), "opened")
            self._codec.settle(reply.opened.frames)
        except BaseException:
            self.close()
            raise

    def exchange(self, request: pb.ControlRequest, kind: str) -> tuple[pb.ControlReply, dict[str, Frame], int]:
        """Return the reply, which must be of this kind, the frames beside it, and how many ns it took to come.

        Raise what the robot refused with, and ProtocolError, ending the session, for a reply to something else.
        """
        request.sequence = next(self._sequence)
        sent_ns = time.monotonic_ns()
        data = self._control.exchange(request.SerializeToString())
        round_trip_ns = time.monotonic_ns() - sent_ns
        reply, frames = self._codec.unpack(pb.ControlReply, data)
        if reply.WhichOneof("reply") == "error":
            raise decode_error(reply.error)
        if reply.sequence != request.sequence or reply.WhichOneof("reply") != kind:
            self.close()
            raise ProtocolError(
                f"the robot server answered request {request.sequence} with {reply.WhichOneof('reply')} to request "
                f"{reply.sequence}, not with {kind}; the session is over"
            )
        self.seen_ns = reply.server_ns or self.seen_ns
        return reply, frames, round_trip_ns

    def close(self) -> None:
        """Give the robot back; idempotent."""
        self._control.close()
        self._codec.close()


def _within_ns(max_age_s: float | None, spec: RobotSpec) -> int:
    """Return the deadline of actions, 0 for none; raise ProtocolError for an age that is none."""
    if max_age_s is None:
        max_age_s = spec.watchdog_s if spec.realtime else math.inf
    if not max_age_s > 0:
        raise ProtocolError(f"max_age_s must be above 0, got {max_age_s}; math.inf for no deadline")
    return 0 if math.isinf(max_age_s) else max(round(max_age_s * 1e9), 1)

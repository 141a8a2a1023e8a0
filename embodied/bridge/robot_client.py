"""A robot in another process, used through the same Robot protocol as a local one."""

from __future__ import annotations

import os
import socket
import threading
from typing import Self

from embodied.bridge.address import PROTOCOL
from embodied.bridge.codec import decode_observation, decode_spec, decode_step, encode_actions, require_text
from embodied.bridge.envelope import unpack
from embodied.bridge.lockstep import LockStep, Peer
from embodied.bridge.refusals import decode_error
from embodied.errors import ProtocolError
from embodied.types import Action, Frame, Observation, RobotSpec, Step
from embodied.v1 import robot_pb2 as pb

STOP_TIMEOUT_S = 5.0


class RemoteRobot:
    """A Robot behind an address. The first reset takes control of it and close gives it back, stopped."""

    def __init__(self, address: str, *, connect_timeout_s: float = 5.0, reply_timeout_s: float = 60.0) -> None:
        """Connect and ask what the robot is; raise ProtocolError if none answers or it speaks another version."""
        self._peer = Peer(address, pb.DESCRIPTOR.services_by_name["RobotService"], "robot server")
        self._reply_timeout_s = reply_timeout_s
        self._opening = threading.Lock()
        self._control: LockStep | None = None
        self._closed = False
        try:
            described = self._peer.describe(pb.DescribeRobotRequest(), connect_timeout_s)
            self._spec = decode_spec(described.spec)
        except BaseException:
            self._peer.close()
            raise

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode, as the local robot would; also raise ProtocolError if another operator holds it."""
        if not -(2**63) <= seed < 2**63:
            raise ProtocolError(f"seed {seed} does not fit 64 bits")
        request = pb.ControlRequest(reset=pb.Reset(seed=seed, task=require_text(task)))
        reply, frames = _exchange(self._control or self._open(), request)
        return decode_observation(reply.observation, frames)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions in order, as the local robot would."""
        request = pb.ControlRequest(step=pb.StepRequest(actions=encode_actions(actions), frames=frames))
        reply, seen = _exchange(self._control or self._open(), request)
        return decode_step(reply.step, seen)

    def stop(self) -> None:
        """Come to a controlled stop and hold; needs no control of the robot."""
        if not self._closed:  # closing stopped it
            self._peer.ask("Stop", pb.StopRequest(), STOP_TIMEOUT_S)

    def close(self) -> None:
        """End the control stream, which stops the robot, and the connection; the far robot itself stays."""
        with self._opening:
            if self._closed:
                return
            self._closed = True
            if self._control is not None:
                self._control.close()
            self._peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> LockStep:
        with self._opening:
            if self._closed:
                raise ProtocolError(f"the connection to {self._peer.address} is closed")
            if self._control is None:
                control = LockStep(self._peer, "Control", self._reply_timeout_s)
                me = f"{socket.gethostname()}/{os.getpid()}"
                try:
                    _exchange(control, pb.ControlRequest(open=pb.Open(protocol=PROTOCOL, client=me)))
                except BaseException:
                    control.close()
                    raise
                self._control = control
            return self._control


def _exchange(control: LockStep, request: pb.ControlRequest) -> tuple[pb.ControlReply, dict[str, Frame]]:
    """Return the reply and the frames beside it; raise what the far side refused with."""
    reply, frames = unpack(pb.ControlReply, control.exchange(request.SerializeToString()))
    if reply.WhichOneof("reply") == "error":
        raise decode_error(reply.error)
    return reply, frames

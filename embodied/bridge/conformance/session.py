"""One operator's session as a test drives it: each request by itself, with gentle motion and heartbeats."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.bridge.arrays import decode_vector, encode_array
from embodied.bridge.conformance.client import Ending, Stream, decode
from embodied.bridge.conformance.verdict import NonconformityError, require
from embodied.errors import ProtocolError
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

Vector = NDArray[np.float32]
SEED = 7


class Session:
    """A control stream; what is read from it is checked only as far as the next request needs."""

    def __init__(self, stream: Stream, spec: types.RobotSpec, timeout_s: float) -> None:
        self.stream, self.spec, self.timeout_s = stream, spec, timeout_s
        self.sequence = 0
        self.last = pb.ControlReply()  # to the latest reset or step
        self.start = np.zeros(0, np.float32)  # the state after the latest reset
        self.done = True
        self._ended = threading.Event()

    def send(self, request: pb.ControlRequest | bytes) -> None:
        """Send a request, numbered unless it is bytes."""
        if isinstance(request, pb.ControlRequest):
            self.sequence += 1
            request.sequence = request.sequence or self.sequence
            request = request.SerializeToString()
        self.stream.send(request)

    def receive(self, what: str) -> pb.ControlReply:
        """Return the reply to what; raise NonconformityError if none came or the stream ended."""
        arrived = self.stream.receive(self.timeout_s)
        if arrived is None:
            raise NonconformityError(f"expected a reply to {what}; found none within {self.timeout_s:g} s")
        if isinstance(arrived, Ending):
            raise NonconformityError(f"expected a reply to {what}; found that the stream ended with {arrived}")
        reply: pb.ControlReply = decode(pb.ControlReply, arrived)
        self.stream.heard(reply.error.message)
        return reply

    def ask(self, request: pb.ControlRequest, wanted: str) -> pb.ControlReply:
        """Send a request and return its reply; raise NonconformityError if that is not of the kind wanted."""
        what = request.WhichOneof("request") or "an empty request"
        self.send(request)
        reply = self.receive(what)
        found = reply.WhichOneof("reply")
        require(found == wanted, f"{wanted} in answer to {what}", told(reply))
        return reply

    def refused(self, request: pb.ControlRequest | bytes, code: int | None, what: str) -> str:
        """Send what must be refused and return the words; raise NonconformityError unless an error of code answers.

        code None takes any.
        """
        self.send(request)
        reply = self.receive(what)
        wanted = "an error" if code is None else f"an error of {_code(code)}"
        right = reply.WhichOneof("reply") == "error" and code in (None, reply.error.code)
        require(right and reply.error.code != 0, f"{wanted} in answer to {what}", told(reply))
        return reply.error.message

    def reset(self, seed: int = SEED) -> pb.ControlReply:
        """Begin an episode of the first task and return the reply."""
        reply = self.ask(pb.ControlRequest(reset=pb.Reset(seed=seed, task=self.spec.tasks[0])), "observation")
        self.last, self.done = reply, False
        self.start = state_of(reply, self.spec)
        return reply

    def step(self, poses: Vector, *, frames: bool = False, answers_ns: int = 0, within_ns: int = 0) -> pb.ControlReply:
        """Carry out one pose (n,) or a chunk (k, n); an episode that is over begins anew before."""
        if self.done:
            self.reset()
        reply = self.ask(step_request(poses, frames=frames, answers_ns=answers_ns, within_ns=within_ns), "step")
        self.last = reply
        self.done = reply.step.terminated or reply.step.truncated
        return reply

    @property
    def hold(self) -> Vector:
        """Return the action (n,) that keeps the state after the latest reset; for a delta field that is nothing."""
        state = dict(zip((f.name for f in self.spec.state), self.start, strict=False))
        wanted = [
            0.0 if f.mode == types.Field.MODE_DELTA else float(state.get(f.name, (f.low + f.high) / 2))
            for f in self.spec.action
        ]
        low, high = bounds(self.spec)
        held: Vector = np.clip(np.array(wanted), low, high).astype(np.float32)
        return held

    def keep_alive(self) -> None:
        """Send heartbeats from now until the session ends."""
        threading.Thread(target=self._beat, name="conformance-heartbeat", daemon=True).start()

    def end(self) -> Ending:
        """End the session as an operator does; raise NonconformityError if the server does not end its side."""
        self._ended.set()
        self.stream.finish()
        ending = self.stream.wait(self.timeout_s)
        if ending is None:
            raise NonconformityError(f"the stream was still open {self.timeout_s:g} s after its client had ended it")
        return ending

    def ended_by_server(self, timeout_s: float, why: str) -> Ending:
        """Return how the server ended the stream; raise NonconformityError if it did not within timeout_s."""
        ending = self.stream.wait(timeout_s)
        if ending is None:
            raise NonconformityError(
                f"expected the stream to be ended because {why}; found it open {timeout_s:.2g} s on"
            )
        self._ended.set()
        return ending

    def fall_silent(self) -> None:
        """Send no more heartbeats."""
        self._ended.set()

    def cut(self) -> None:
        """Break the stream off, as when the client dies; idempotent."""
        self._ended.set()
        self.stream.cancel()

    def _beat(self) -> None:
        beat = pb.ControlRequest(heartbeat=pb.Heartbeat()).SerializeToString()
        while not self._ended.wait(self.spec.watchdog_s / 5):
            self.stream.send(beat)


def step_request(poses: Vector, *, frames: bool = False, answers_ns: int = 0, within_ns: int = 0) -> pb.ControlRequest:
    """Return the request to carry out one pose (n,) or a chunk (k, n)."""
    actions = types.Actions(poses=encode_array(np.atleast_2d(poses)))
    return pb.ControlRequest(
        answers_ns=answers_ns, within_ns=within_ns, step=pb.StepRequest(actions=actions, frames=frames)
    )


def observation_of(reply: pb.ControlReply) -> types.Observation:
    """Return the observation that a reply to reset or step carries."""
    return reply.step.observation if reply.WhichOneof("reply") == "step" else reply.observation


def state_of(reply: pb.ControlReply, spec: types.RobotSpec) -> Vector:
    """Return the state (n,) of a reply; raise NonconformityError if it is no float32 (n,) that fits the spec."""
    try:
        state = decode_vector(observation_of(reply).state, "state")
    except ProtocolError as error:
        raise NonconformityError(str(error)) from error
    require(len(state) == len(spec.state), f"a state of {len(spec.state)} numbers", len(state))
    return state


def bounds(spec: types.RobotSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return low and high (n,) of the action."""
    return np.array([f.low for f in spec.action]), np.array([f.high for f in spec.action])


def told(reply: pb.ControlReply) -> str:
    """Return what a reply says, in a line."""
    kind = reply.WhichOneof("reply")
    if kind == "error":
        return f"an error of {_code(reply.error.code)}: {reply.error.message!r}"
    if kind == "step":
        step: Any = reply.step
        said = ", ".join(f"{i.kind} {i.field}: {i.requested:.4g} -> {i.applied:.4g}" for i in step.interventions)
        return f"a step, executed {step.executed}, dropped {step.dropped}, interventions [{said}]"
    return kind or "a reply without content"


def wait_until(condition: Any, timeout_s: float) -> bool:  # noqa: ANN401
    """Return whether condition() came true within timeout_s."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def _code(code: int) -> str:
    known = types.ErrorCode.DESCRIPTOR.values_by_number
    return known[code].name if code in known else f"unknown code {code}"

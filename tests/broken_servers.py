"""Robot servers broken on purpose: a real one, and between it and the client somebody who breaks its contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np

from embodied.bridge.address import GRPC_OPTIONS
from embodied.bridge.robot_server import serve_robot
from embodied.safety import Limited
from embodied.types import Action, Intervention, Limits, Observation, PoseAction, Robot, Step
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types
from tests.dummy_robot import DummyRobot

SERVICE = "/embodied.v1.RobotService/"


@dataclass(frozen=True)
class Tampering:
    """What is done to the messages between client and server; a request or reply that comes back None is lost."""

    request: Callable[[pb.ControlRequest], pb.ControlRequest | None] = lambda request: request
    reply: Callable[[pb.ControlReply], pb.ControlReply | None] = lambda reply: reply
    answers: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)  # method -> what becomes of its answer
    after: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # method -> what is called behind its back
    robot: Callable[[], Robot] = DummyRobot
    lingers: bool = False  # whether the server is not told that its client has left


@contextmanager
def tampered(tampering: Tampering) -> Iterator[str]:
    """Serve a real robot through the tampering and yield the address; any method is passed on, byte for byte."""
    with serve_robot(tampering.robot) as server, grpc.insecure_channel(server.address, options=GRPC_OPTIONS) as behind:
        between = _Between(behind, tampering)
        front = grpc.server(ThreadPoolExecutor(32), handlers=[between], options=GRPC_OPTIONS)
        port = front.add_insecure_port("127.0.0.1:0")
        front.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            between.over.set()
            front.stop(None).wait()


class _Between(grpc.GenericRpcHandler):
    def __init__(self, behind: grpc.Channel, tampering: Tampering) -> None:
        self._behind, self._tampering = behind, tampering
        self.over = threading.Event()

    def service(self, call_details: grpc.HandlerCallDetails) -> Any:
        method = call_details.method  # on the wire a call of one message is a stream of one
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: self._pass(method, requests, context))

    def _pass(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        name = method.removeprefix(SERVICE)
        call: Any = self._behind.stream_stream(method)(self._requests(name, requests))
        if not self._tampering.lingers:
            context.add_callback(call.cancel)
        try:
            for reply in call:
                if name == "Control":
                    changed = self._tampering.reply(pb.ControlReply.FromString(reply))
                    reply = None if changed is None else changed.SerializeToString()
                if reply is not None:
                    yield self._tampering.answers.get(name, lambda same: same)(reply)
        except grpc.RpcError:
            context.set_code(call.code())
            context.set_details(call.details())
        if name in self._tampering.after:
            behind_its_back, request = self._tampering.after[name]
            self._behind.unary_unary(SERVICE + behind_its_back)(request)

    def _requests(self, name: str, requests: Iterator[bytes]) -> Iterator[bytes]:
        try:
            for data in requests:
                if name != "Control":
                    yield data
                    continue
                try:
                    request = self._tampering.request(pb.ControlRequest.FromString(data))
                except Exception:  # bytes that are none pass as they are
                    yield data
                else:
                    if request is not None:
                        yield request.SerializeToString()
        except grpc.RpcError:
            pass  # the client left
        if name == "Control" and self._tampering.lingers:
            self.over.wait()


# ------------------------------------------------------------------------------------------------------- the breakages


def without_lease(request: pb.ControlRequest) -> pb.ControlRequest:
    if request.HasField("open"):
        request.open.takeover = True
    return request


def without_deadline(request: pb.ControlRequest) -> pb.ControlRequest:
    request.within_ns = 0
    return request


def of_any_version(request: pb.ControlRequest) -> pb.ControlRequest:
    if request.HasField("open"):
        request.open.protocol = 2
    return request


def to_any_robot(request: pb.ControlRequest) -> pb.ControlRequest:
    if request.HasField("open"):
        request.open.ClearField("expected")
    return request


def without_heartbeats(request: pb.ControlRequest) -> pb.ControlRequest | None:
    return None if request.HasField("heartbeat") else request


def without_sequence(reply: pb.ControlReply) -> pb.ControlReply:
    reply.sequence = 0
    return reply


def with_a_traceback(reply: pb.ControlReply) -> pb.ControlReply:
    if reply.HasField("error"):
        reply.error.message += '\nTraceback (most recent call last):\n  File "robot.py", line 1'
    return reply


def without_interventions(reply: pb.ControlReply) -> pb.ControlReply:
    if reply.HasField("step"):
        del reply.step.interventions[:]
    return reply


def with_one_difference(reply: pb.ControlReply) -> pb.ControlReply:
    if reply.error.code == types.ERROR_CODE_SPEC_MISMATCH:
        reply.error.message = reply.error.message[: reply.error.message.find("control_hz")]
    return reply


def with_nameless_refusals(reply: pb.ControlReply) -> pb.ControlReply:
    if reply.error.code == types.ERROR_CODE_UNKNOWN_NAME:
        reply.error.message = "no"
    return reply


def never(reply: pb.ControlReply) -> None:
    return None


def with_twins(answer: bytes) -> bytes:
    reply = pb.DescribeRobotReply.FromString(answer)
    reply.spec.cameras[1].name = reply.spec.cameras[0].name
    reply.spec.state[0].high = float("inf")
    reply.spec.tiers.append("easy")  # of two tasks
    reply.protocol = 1
    return reply.SerializeToString()


def latched_still(answer: bytes) -> bytes:
    return pb.RobotStatus(stopped=True).SerializeToString()


def hangs(answer: bytes) -> bytes:
    time.sleep(2)
    return answer


class LooseRobot(Limited):
    """A dummy robot that is tampered with, and says that it needs no safety layer but its own."""

    def __init__(self) -> None:
        self.inner = DummyRobot()
        self.spec = self.inner.spec
        self.resets = 0

    def reset(self, seed: int, task: str) -> Observation:
        self.resets += 1
        return self.seen(self.inner.reset(self.seed(seed), task))

    def step(self, *actions: Action, frames: bool = True) -> Step:
        step = self.inner.step(*actions, frames=frames)
        return replace(step, observation=self.seen(step.observation))

    def seed(self, seed: int) -> int:
        return seed

    def seen(self, observation: Observation) -> Observation:
        return observation

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()


class NanRobot(LooseRobot):
    """Goes wherever it is told, to nowhere too."""

    def step(self, *actions: Action, frames: bool = True) -> Step:
        step = super().step(*actions, frames=frames)
        if not isinstance(actions[-1], PoseAction):
            return step
        state = np.append(actions[-1].values, step.observation.state[-1]).astype(np.float32)
        return replace(step, observation=replace(step.observation, state=state), interventions=())


class SmallRobot(LooseRobot):
    """Sends frames of another size than it declares."""

    def seen(self, observation: Observation) -> Observation:
        return replace(observation, frames={name: frame[::2] for name, frame in observation.frames.items()})


class ForgetfulRobot(LooseRobot):
    """Begins each episode elsewhere, whatever the seed."""

    def seed(self, seed: int) -> int:
        return seed + self.resets


class UnlimitedRobot(LooseRobot):
    """Declares limits, and jumps to wherever it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(self.spec, limits=Limits((1.0,) * 3, (2.0,) * 3))


class BoastfulRobot(UnlimitedRobot):
    """Says that it limited what it did not."""

    def step(self, *actions: Action, frames: bool = True) -> Step:
        said = tuple(Intervention("velocity", field.name, 1.0, 0.1) for field in self.spec.action)
        step = super().step(*actions, frames=frames)
        return replace(step, interventions=(*step.interventions, *said))

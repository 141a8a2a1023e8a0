"""Serves one robot over gRPC: Describe, one operator's lock-step Control stream, Stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc

from embodied.bridge.address import DEFAULT_ADDRESS, PROTOCOL
from embodied.bridge.codec import decode_actions, encode_observation, encode_spec, encode_step
from embodied.bridge.envelope import pack, parse
from embodied.bridge.refusals import encode_error
from embodied.bridge.server import BridgeServer
from embodied.errors import EmbodiedError, ProtocolError
from embodied.types import Robot
from embodied.v1 import robot_pb2 as pb

T = TypeVar("T")
THREADS = 8  # one holds the control stream; the others answer Describe, Stop and second operators

log = logging.getLogger(__name__)


class RobotThread:
    """The one thread on which a robot is made, stepped and closed: an OpenGL context works only where it was made."""

    def __init__(self, make_robot: Callable[[], Robot]) -> None:
        self._thread = ThreadPoolExecutor(1, "robot")
        try:
            self._robot = self._thread.submit(make_robot).result()
            self.spec = self.call(lambda robot: robot.spec)
        except BaseException:
            self._thread.shutdown()
            raise

    def call(self, work: Callable[[Robot], T]) -> T:
        """Run work on the robot's thread and return what it returns."""
        return self._thread.submit(work, self._robot).result()

    def stop(self) -> None:
        """Stop the robot from the calling thread: a stop must not queue behind the motion that it is to end."""
        self._robot.stop()

    def close(self) -> None:
        """Close the robot and end its thread."""
        self.stop()
        self.call(lambda robot: robot.close())
        self._thread.shutdown()


class RobotService:
    """The methods of RobotService for one robot, named as in the schema."""

    def __init__(self, robot: RobotThread) -> None:
        self._robot = robot
        self._lease = threading.Lock()
        self._holder = ""

    def Describe(self, request: pb.DescribeRobotRequest, context: grpc.ServicerContext) -> pb.DescribeRobotReply:  # noqa: N802
        """Say what the robot is."""
        return pb.DescribeRobotReply(protocol=PROTOCOL, spec=encode_spec(self._robot.spec))

    def Stop(self, request: pb.StopRequest, context: grpc.ServicerContext) -> pb.StopReply:  # noqa: N802
        """Stop the robot, whoever holds it."""
        self._robot.stop()
        return pb.StopReply()

    def Control(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: N802
        """Answer one operator's requests in order; stop the robot when the stream ends, however it ends."""
        if not self._lease.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"{self._robot.spec.name} is held by {self._holder}; one operator"
            )
        self._holder = context.peer()
        context.add_callback(self._robot.stop)  # at once, even while a chunk is being carried out
        try:
            session = ControlSession(self._robot)
            for request in requests:
                reply = session.answer(request)
                self._holder = session.client or self._holder
                yield reply
        finally:
            try:
                self._robot.stop()
            finally:  # a robot that cannot stop is still not held by one who has left
                self._holder = ""
                self._lease.release()


class ControlSession:
    """One operator's session: opened first, then reset, then stepped."""

    def __init__(self, robot: RobotThread) -> None:
        self.client = ""
        self._robot = robot
        self._began = False

    def answer(self, request: bytes) -> bytes:
        """Return the reply to a request; what the robot refuses is an error reply, and the session goes on."""
        try:
            return self._carry_out(parse(pb.ControlRequest, request))
        except EmbodiedError as error:
            return pb.ControlReply(error=encode_error(error)).SerializeToString()
        except Exception as error:  # the robot's own failure: the operator is told, the server lives
            log.exception("%s failed", self._robot.spec.name)
            self._robot.stop()
            return pb.ControlReply(error=encode_error(error)).SerializeToString()

    def _carry_out(self, request: pb.ControlRequest) -> bytes:
        kind = request.WhichOneof("request")
        if kind == "open":
            return self._open(request.open)
        if not self.client:
            raise ProtocolError("the first request of a control stream must be open")
        if kind == "reset":
            return self._reset(request.reset)
        if kind == "step":
            return self._step(request.step)
        raise ProtocolError("a request of no kind that this server knows; it knows open, reset and step")

    def _open(self, request: pb.Open) -> bytes:
        if request.protocol != PROTOCOL:
            raise ProtocolError(f"the client speaks version {request.protocol} of the protocol, the robot {PROTOCOL}")
        self.client = request.client or "a client without a name"
        return pb.ControlReply(opened=pb.Opened()).SerializeToString()

    def _reset(self, request: pb.Reset) -> bytes:
        observation = self._robot.call(lambda robot: robot.reset(request.seed, request.task))
        self._began = True
        return pack(pb.ControlReply(observation=encode_observation(observation)), observation.frames)

    def _step(self, request: pb.StepRequest) -> bytes:
        if not self._began:  # another operator's episode is not this one's to go on with
            raise ProtocolError("step before reset: begin an episode first")
        actions = decode_actions(request.actions)
        step = self._robot.call(lambda robot: robot.step(*actions, frames=request.frames))
        return pack(pb.ControlReply(step=encode_step(step)), step.observation.frames)


class RobotServer(BridgeServer):
    """A running robot server; stopping it stops and closes the robot."""


def serve_robot(
    make_robot: Callable[[], Robot], address: str = DEFAULT_ADDRESS, *, insecure: bool = False
) -> RobotServer:
    """Make the robot on a thread of its own and serve it at address (host:port or unix:/path).

    Raise EmbodiedError if the address is taken, or reachable from other machines without insecure. The robot is made
    only once the address is ours, and what make_robot raises comes through.
    """
    server = RobotServer(address, threads=THREADS, insecure=insecure)
    try:
        robot = RobotThread(make_robot)
    except BaseException:
        server.stop()
        raise
    service = RobotService(robot)
    server.start(pb.DESCRIPTOR.services_by_name["RobotService"], service, robot.close)
    return server

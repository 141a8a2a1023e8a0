"""Serves one robot over gRPC: one operator's Control, any number of watchers, and a stop for everyone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

import grpc

from embodied.bridge.address import DEFAULT_ADDRESS, PROTOCOL
from embodied.bridge.audience import MAX_WATCHERS, Seen
from embodied.bridge.codec import encode_observation, encode_spec, encode_step
from embodied.bridge.control_session import ControlSession
from embodied.bridge.credentials import OPEN_SERVER, ServerCredentials
from embodied.bridge.envelope import pack
from embodied.bridge.origin import encode_origin
from embodied.bridge.robot_host import RobotHost
from embodied.bridge.server import BridgeServer
from embodied.bridge.status import encode_status
from embodied.origin import Origin
from embodied.types import Robot, Step
from embodied.v1 import robot_pb2 as pb

M = TypeVar("M", bound=Callable[..., object])

MAX_STREAMS = 16  # control streams at once: one that holds the robot, the others being refused
SPARE_THREADS = 8  # answer what is over at once: Describe, and the refusals of streams too many
STOP_THREADS = 4
MAX_REQUEST_BYTES = 4 * 1024 * 1024  # of 1024 actions; requests that wait for their turn must not fill the memory

log = logging.getLogger(__name__)

_STOPS = ThreadPoolExecutor(STOP_THREADS, "bridge-stop")


def _always_answered(method: M) -> M:
    """Give a method threads that no stream can take: a stop must be heard however many others are being served."""
    method.experimental_thread_pool = _STOPS  # type: ignore[attr-defined]
    return method


class RobotService:
    """The methods of RobotService for one robot, named as in the schema."""

    def __init__(self, host: RobotHost, origin: Origin | None) -> None:
        self._host, self._origin = host, origin
        self._streams = threading.BoundedSemaphore(MAX_STREAMS)

    def Describe(self, request: pb.DescribeRobotRequest, context: grpc.ServicerContext) -> pb.DescribeRobotReply:  # noqa: N802
        """Say what the robot is."""
        origin = None if self._origin is None else encode_origin(self._origin)
        return pb.DescribeRobotReply(protocol=PROTOCOL, spec=encode_spec(self._host.spec), origin=origin)

    def Control(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: N802
        """Answer one operator's requests in order; stop the robot when the stream ends, however it ends."""
        if not self._streams.acquire(blocking=False):
            _refuse(context, f"{self._host.spec.name} is already asked by {MAX_STREAMS} operators; try again")
            return
        session = ControlSession(self._host, context.peer(), context.cancel)
        try:
            if context.add_callback(session.leave):  # at once, even while a chunk is being carried out
                threading.Thread(target=session.listen, args=(requests,), name="operator", daemon=True).start()
                yield from session.replies()
            if session.verdict is not None:
                code, details = session.verdict
                context.set_code(code)
                context.set_details(details)
        finally:
            session.leave()
            self._streams.release()

    def Watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: N802
        """Show what the operator sees, the newest alone, encoded on the watcher's own thread."""
        seat = self._host.audience.join()
        if seat is None:
            _refuse(context, f"{self._host.spec.name} is already watched by {MAX_WATCHERS}")
            return
        try:
            if not context.add_callback(seat.leave):
                return
            while (news := seat.look()) is not None:
                status_changed, seen = news
                if status_changed:
                    yield pb.WatchReply(status=encode_status(self._host.status)).SerializeToString()
                if seen is not None:
                    yield _encode_seen(seen, frames=request.frames)
        finally:
            self._host.audience.leave(seat)

    @_always_answered
    def Stop(self, request: pb.StopRequest, context: grpc.ServicerContext) -> pb.StopReply:  # noqa: N802
        """Stop the robot, whoever holds it."""
        try:
            self._host.thread.robot.stop()
        except (Exception, SystemExit) as error:  # gRPC would leave the call unanswered
            self._fail(context, error, "")
        return pb.StopReply()

    @_always_answered
    def EmergencyStop(self, request: pb.EmergencyStopRequest, context: grpc.ServicerContext) -> pb.RobotStatus:  # noqa: N802
        """Latch the emergency stop, then stop the robot; the latch holds even if the robot fails to stop."""
        try:
            self._host.press_emergency_stop(_name(request.client, context))
        except (Exception, SystemExit) as error:  # gRPC would leave the call unanswered
            self._fail(context, error, "the emergency stop is latched, but ")
        return encode_status(self._host.status)

    @_always_answered
    def ReleaseEmergencyStop(  # noqa: N802
        self, request: pb.ReleaseEmergencyStopRequest, context: grpc.ServicerContext
    ) -> pb.RobotStatus:
        """Release the emergency stop."""
        self._host.release_emergency_stop(_name(request.client, context))
        return encode_status(self._host.status)

    def Status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.RobotStatus:  # noqa: N802
        """Say who holds the robot, whether it is stopped, and what was counted."""
        return encode_status(self._host.status)

    def _fail(self, context: grpc.ServicerContext, error: BaseException, before: str) -> NoReturn:
        log.error("%s cannot be stopped", self._host.spec.name, exc_info=error)
        words = f"{before}{self._host.spec.name} failed to stop with {type(error).__name__}: {error}"
        context.abort(grpc.StatusCode.INTERNAL, words)


class RobotServer(BridgeServer):
    """A running robot server; stopping it stops and closes the robot."""


def serve_robot(
    make_robot: Callable[[], Robot],
    address: str = DEFAULT_ADDRESS,
    *,
    insecure: bool = False,
    credentials: ServerCredentials = OPEN_SERVER,
    origin: Callable[[], Origin | None] = lambda: None,
) -> RobotServer:
    """Make the robot on a thread of its own and serve it at address (host:port or unix:/path).

    Raise EmbodiedError if the address is taken, or as BridgeServer does for its credentials. The robot is made
    only once the address is ours, and what make_robot raises comes through. origin, asked once it is made, is told to
    whoever asks for a description.
    """
    server = RobotServer(
        address,
        threads=MAX_STREAMS + MAX_WATCHERS + SPARE_THREADS,
        insecure=insecure,
        credentials=credentials,
        largest_request=MAX_REQUEST_BYTES,
    )
    try:
        host = RobotHost(make_robot)
    except BaseException:
        server.stop()
        raise
    server.start(pb.DESCRIPTOR.services_by_name["RobotService"], RobotService(host, origin()), host.close)
    return server


def _refuse(context: grpc.ServicerContext, words: str) -> None:
    context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
    context.set_details(words)


def _name(client: str, context: grpc.ServicerContext) -> str:
    return client or f"a client without a name ({context.peer()})"


def _encode_seen(seen: Seen, *, frames: bool) -> bytes:
    if isinstance(seen.what, Step):
        reply = pb.WatchReply(server_ns=seen.server_ns, step=encode_step(seen.what))
        return pack(reply, seen.what.observation.frames if frames else {})
    reply = pb.WatchReply(server_ns=seen.server_ns, observation=encode_observation(seen.what))
    return pack(reply, seen.what.frames if frames else {})

"""What a check works with: the server, its spec, and sessions and an emergency stop that are let go of afterwards."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from embodied.bridge.address import PROTOCOL
from embodied.bridge.conformance.client import Ending, Server, Stream, decode
from embodied.bridge.conformance.session import Session, told, wait_until
from embodied.bridge.conformance.verdict import NonconformityError, NotApplicableError, require
from embodied.errors import EmbodiedError
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

LONGEST_WATCHDOG_S = 10.0  # a longer one is not waited for
MARGIN_S = 1.0  # beyond a bound of the contract: for the wire and a busy machine


class Bench:
    """The server under test between two checks is free and not stopped; what a check changes is put back by tidy."""

    def __init__(self, server: Server, *, motion: bool) -> None:
        self.server = server
        self.motion = motion
        self.spec = types.RobotSpec()
        self.me = f"embodied check {socket.gethostname()}/{os.getpid()}"
        self._sessions: list[Session] = []
        self._watches: list[Stream] = []
        self._servers: list[Server] = []
        self._pressed = False

    def needs_motion(self) -> None:
        """Raise NotApplicableError where the robot may not move, or where no action is known that holds it."""
        if not self.motion:
            raise NotApplicableError("--no-motion was given, and a reset or a step may move the robot")
        known = {f.name for f in self.spec.state if f.mode == types.Field.MODE_ABSOLUTE}
        unknown = [f.name for f in self.spec.action if f.mode != types.Field.MODE_DELTA and f.name not in known]
        if self.spec.realtime and unknown:
            raise NotApplicableError(f"no action is known to hold a real robot whose state lacks its fields {unknown}")

    def needs_simulation(self, what: str) -> None:
        """Raise NotApplicableError where time is real; what says what such a robot is spared."""
        if self.spec.realtime:
            raise NotApplicableError(f"{what} is for simulated robots only")

    def needs_short_watchdog(self) -> None:
        """Raise NotApplicableError where waiting for the watchdog would take too long."""
        if self.spec.watchdog_s > LONGEST_WATCHDOG_S:
            raise NotApplicableError(f"its watchdog_s of {self.spec.watchdog_s:g} s is too long to wait for")

    def stream(self, server: Server | None = None) -> Session:
        """Return a session that has not been opened."""
        session = Session((server or self.server).control(), self.spec, self.server.timeout_s)
        self._sessions.append(session)
        return session

    def request(self, name: str = "", **fields: object) -> pb.ControlRequest:
        """Return an open request of this version with our name, and name behind it."""
        given = {"protocol": PROTOCOL, "client": f"{self.me} {name}".strip(), **fields}
        return pb.ControlRequest(open=pb.Open(**given))  # type: ignore[arg-type]

    def open(self, name: str = "", server: Server | None = None, **fields: object) -> Session:
        """Return a session that holds the robot."""
        session = self.stream(server)
        session.ask(self.request(name, **fields), "opened")
        session.keep_alive()
        return session

    def begin(self, name: str = "") -> Session:
        """Return a session in an episode of the first task; raise NotApplicableError where nothing may move."""
        self.needs_motion()
        session = self.open(name)
        session.reset()
        return session

    def refused_open(self, session: Session, request: pb.ControlRequest) -> Ending:
        """Send an open that another's lease must refuse, and return the words of the refusal."""
        session.send(request)
        arrived = session.stream.receive(self.server.timeout_s)
        if isinstance(arrived, bytes):
            raise NonconformityError(
                "expected a second operator's stream to be ended with FAILED_PRECONDITION; found "
                + told(decode(pb.ControlReply, arrived))
            )
        if arrived is None:
            raise NonconformityError(f"a second operator got no answer within {self.server.timeout_s:g} s")
        require(
            arrived.code.name == "FAILED_PRECONDITION",
            "a second operator's stream to be ended with FAILED_PRECONDITION",
            arrived,
        )
        return arrived

    def watch(self, *, frames: bool) -> Stream:
        """Begin to watch, until tidy."""
        stream = self.server.watch(pb.WatchRequest(client=self.me, frames=frames))
        self._watches.append(stream)
        return stream

    def another(self) -> Server:
        """Return a second client of the server, with a connection of its own, closed by tidy."""
        server = self.server.another()
        self._servers.append(server)
        return server

    def status(self) -> pb.RobotStatus:
        """Return the server's status."""
        status: pb.RobotStatus = self.server.ask("Status", pb.StatusRequest())
        return status

    def status_if_any(self) -> pb.RobotStatus | None:
        """Return the server's status, None where it does not answer with one."""
        try:
            return self.status()
        except NonconformityError:
            return None

    def press(self, name: str = "") -> pb.RobotStatus:
        """Press the emergency stop; tidy releases it."""
        self._pressed = True
        client = f"{self.me} {name}".strip()
        status: pb.RobotStatus = self.server.ask("EmergencyStop", pb.EmergencyStopRequest(client=client))
        return status

    def release(self) -> pb.RobotStatus:
        """Release the emergency stop; raise EmbodiedError, leaving it latched, if somebody else pressed it."""
        status = self.status_if_any()
        if status is not None and status.stopped:
            self._require_ours(status.stopped_by, f"the emergency stop was pressed by {status.stopped_by}: it stays so")
        released: pb.RobotStatus = self.server.ask(
            "ReleaseEmergencyStop", pb.ReleaseEmergencyStopRequest(client=self.me)
        )
        require(not released.stopped, "the emergency stop to be released", "that it is latched still")
        self._pressed = False
        return released

    def require_free(self) -> None:
        """Raise EmbodiedError, saying who, if somebody else holds the robot or pressed its emergency stop."""
        found = self.status_if_any()
        if found is None:
            return  # the checks of Status tell that
        held = f"the robot is held by {found.holder} for {found.held_s:.1f} s: nobody else may move it"
        if found.holder:
            self._require_ours(found.holder, held)
        if found.stopped and not self._pressed:
            raise EmbodiedError(
                f"the emergency stop was pressed by {found.stopped_by or 'somebody'} {found.stopped_s:.1f} s ago; "
                f"release it first: {self.server.release_command}"
            )

    @contextmanager
    def tidied(self) -> Iterator[None]:
        """End every session of the block, and release the emergency stop if the block pressed it."""
        try:
            yield
        except BaseException:
            with suppress(NonconformityError):  # what went wrong first is told
                self._tidy()
            raise
        self._tidy()

    def _tidy(self) -> None:
        for session in self._sessions:
            session.cut()
        for stream in self._watches:
            stream.cancel()
        for session in self._sessions:
            session.stream.wait(self.server.timeout_s)
        self._sessions.clear()
        self._watches.clear()
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._pressed:
            self.release()
        self.wait_until_free()
        self.require_free()

    def wait_until_free(self) -> bool:
        """Return whether the robot is free, or became so within its watchdog's time and a margin."""
        return wait_until(self._is_free, self.spec.watchdog_s + MARGIN_S)

    def _is_free(self) -> bool:
        status = self.status_if_any()
        return status is None or not status.holder

    def _require_ours(self, name: str, otherwise: str) -> None:
        if name and not name.startswith(self.me):
            raise EmbodiedError(otherwise)

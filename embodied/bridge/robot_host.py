"""One robot with its lease, its watchers and its watchdog, which stops it whenever nobody may move it any longer."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import grpc

from embodied.bridge.audience import Audience
from embodied.bridge.lease import Lease, RobotStatus
from embodied.bridge.robot_thread import RobotThread
from embodied.types import Robot

RESTOP_S = 0.01  # a stop that came just before a motion began is said again until the motion is over

log = logging.getLogger(__name__)


class Session(Protocol):
    """One operator's control stream."""

    @property
    def over(self) -> bool:
        """Whether nothing of it may be carried out any more."""

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """End the stream and say why."""


class RobotHost:
    """What every session of one robot shares."""

    def __init__(self, make_robot: Callable[[], Robot]) -> None:
        """Make the robot on its own thread and begin to watch over it."""
        self.thread = RobotThread(make_robot)
        self.spec = self.thread.spec
        self.lease: Lease[Session] = Lease(self.spec.name, self.spec.watchdog_s, realtime=self.spec.realtime)
        self.audience = Audience()
        # Held where the robot's thread goes from one session's work to another's: a stop is for one of the two.
        self._gate = threading.Lock()
        self._running: Session | None = None
        self._leaving: deque[Session] = deque()  # in which no thread overwrites what another puts
        self._stop_fails = False
        self._wake = threading.Event()
        self._closing = self._closed = False
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._watchdog.start()

    @property
    def status(self) -> RobotStatus:
        """Return who holds the robot, whether it is stopped, and the counts."""
        return self.lease.status

    def take(self, session: Session, name: str, *, takeover: bool) -> None:
        """Give the session the lease, ending whom it is taken from; raise LeaseHeldError if it cannot have it."""
        previous = self.lease.acquire(session, name, takeover=takeover)
        if previous is not None:
            previous.end(grpc.StatusCode.ABORTED, f"{name} took the robot over; it has stopped")
            self.halt()
            log.warning("%s took %s over", name, self.spec.name)  # last: a terminal that is held up blocks it
        self._wake.set()
        self.audience.show(None)

    def hear(self, session: Session) -> None:
        """Note that the session's operator lives."""
        if self.lease.touch(session):
            self._wake.set()  # there is somebody to watch over again

    def leave(self, session: Session) -> None:
        """Have the robot stopped and the lease given back soon, without waiting for either."""
        if self.lease.holds(session):
            self._leaving.append(session)
            self._wake.set()

    def finish(self, session: Session) -> None:
        """Stop the robot and give the lease back, if the session has it."""
        if self.lease.holds(session):
            self.halt()
            if self.lease.release(session):
                self.audience.show(None)

    @contextmanager
    def working_for(self, session: Session) -> Iterator[None]:
        """Mark, on the robot's thread, that what it does now is for this session."""
        with self._gate:
            self._running = session
        try:
            yield
        finally:
            with self._gate:
                self._running = None
                if not self._may_run(session):  # a robot in real time answers before its last action is over
                    self._stop_or_log()

    def halt(self) -> None:
        """Stop the robot, or write to the log why it cannot be."""
        with self._gate:
            self._stop_or_log()

    def press_emergency_stop(self, name: str) -> None:
        """Latch the emergency stop and stop the robot; what the robot raises comes through, and it is latched."""
        self.lease.latch(name)
        self._wake.set()
        try:
            self.thread.robot.stop()
        finally:
            self.audience.show(None)
            log.warning("%s: emergency stop, pressed by %s", self.spec.name, name)

    def release_emergency_stop(self, name: str) -> None:
        """Release the emergency stop; the operator may go on."""
        self.lease.unlatch()
        self.audience.show(None)
        log.warning("%s: emergency stop released by %s", self.spec.name, name)

    def close(self) -> None:
        """Stop and close the robot, once its motion is over."""
        self._closing = True
        self.halt()
        self._wake.set()
        try:
            self.thread.close()
        finally:
            self._closed = True
            self._watchdog.join()

    def _watch(self) -> None:
        while not self._closed:
            try:
                rest_s = self._tend()
            except BaseException:  # without it nobody would stop the robot
                log.exception("the watchdog of %s failed; it goes on", self.spec.name)
                rest_s = RESTOP_S
            self._wake.wait(None if rest_s is None else min(rest_s, threading.TIMEOUT_MAX))
            self._wake.clear()

    def _tend(self) -> float | None:
        """Stop the robot if it must be; return after how long to look again, None where something must happen first."""
        if (silent := self.lease.lapse()) is not None:
            self._stalled(silent)
        with self._gate:
            in_vain = self._running is not None and not self._may_run(self._running)
            leaving = [self._leaving.popleft() for _ in range(len(self._leaving))]
            if in_vain or leaving:
                self._stop_or_log()
        if any([self.lease.release(session) for session in leaving]):
            self.audience.show(None)
        return RESTOP_S if in_vain or self._closing else self.lease.lapses_in_s

    def _may_run(self, session: Session) -> bool:
        return not self._closing and not session.over and self.lease.may_move(session)

    def _stalled(self, session: Session) -> None:
        words = f"no sign of life from {self.status.holder} for {self.spec.watchdog_s:g} s; the robot has stopped"
        # Simulated time stands still between steps, and an operator that was only slow finds nothing changed: what is
        # under way is stopped as in vain. Where time is real what it would say next answers something old.
        if self.spec.realtime:
            self.halt()
            self.lease.release(session)
            session.end(grpc.StatusCode.ABORTED, words)
        self.audience.show(None)
        log.warning("%s: %s", self.spec.name, words)

    def _stop_or_log(self) -> None:
        try:
            self.thread.robot.stop()
        except BaseException:  # whoever asked has other things to end, and the robot's own people must know
            if not self._stop_fails:
                log.exception("%s cannot be stopped", self.spec.name)
            self._stop_fails = True
        else:
            self._stop_fails = False

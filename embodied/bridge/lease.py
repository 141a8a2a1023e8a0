"""Who may move the robot: one holder at a time, dead when silent, nobody while the emergency stop is latched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from embodied.errors import EmergencyStopError, LateError, ProtocolError

S = TypeVar("S")
MAX_NAME_CHARACTERS = 100


class LeaseHeldError(ProtocolError):
    """Another operator holds the robot."""


@dataclass(frozen=True)
class RobotStatus:
    """Who holds the robot, whether its emergency stop is latched, and what was counted since the server started."""

    holder: str  # empty: nobody
    held_s: float
    stopped: bool  # the emergency stop is latched
    stopped_by: str
    stopped_s: float  # for how long
    late_actions: int  # dropped for coming too late
    stalls: int  # operators that fell silent for watchdog_s
    refused_requests: int  # answered with an error
    sessions: int


@dataclass(frozen=True)
class _Mark:
    """Who did something, and when."""

    name: str
    clock_s: float  # monotonic
    wall_s: float  # Unix time, for people

    def __str__(self) -> str:
        return time.strftime("%H:%M:%S UTC", time.gmtime(self.wall_s))


class Lease(Generic[S]):
    """The right to move one robot, safe from any thread; a session of any type S holds it.

    A holder that was not heard for watchdog_s lapses: where time is real for good, where it is simulated until it
    speaks again or another takes the lease.
    """

    def __init__(
        self,
        robot: str,
        watchdog_s: float,
        *,
        realtime: bool,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._robot, self._watchdog_s, self._realtime = robot, watchdog_s, realtime
        self._clock_s, self._wall_s = clock_s, wall_s
        self._lock = threading.Lock()
        self._holder: S | None = None
        self._taken = self._pressed = _Mark("", 0.0, 0.0)
        self._heard_s = 0.0
        self._released_s = 0.0  # when the emergency stop was last released
        self._lapsed = self._latched = False
        self._late_actions = self._stalls = self._refused_requests = self._sessions = 0

    def acquire(self, session: S, name: str, *, takeover: bool) -> S | None:
        """Give the session the lease and return whom it was taken from.

        Raise LeaseHeldError if another holds it, is alive, and takeover was not asked for.
        """
        with self._lock:
            previous = self._holder
            if previous is not None and not (takeover or self._lapsed):
                raise LeaseHeldError(
                    f"{self._robot} is held by {self._taken.name} since {self._taken} "
                    f"({self._clock_s() - self._taken.clock_s:.1f} s); one operator at a time: "
                    "wait, or take it over with takeover=True (--takeover)"
                )
            self._holder = session
            self._taken = self._mark(name)
            self._heard_s = self._taken.clock_s
            self._lapsed = False
            self._sessions += 1
            return previous

    def release(self, session: S) -> bool:
        """Give the lease back; return whether the session had it."""
        with self._lock:
            if self._holder is not session:
                return False
            self._holder = None
            self._lapsed = False
            return True

    def touch(self, session: S) -> bool:
        """Note that the holder was heard just now; return whether it had lapsed and goes on."""
        with self._lock:
            if self._holder is not session or (self._lapsed and self._realtime):
                return False
            self._heard_s = self._clock_s()
            revived, self._lapsed = self._lapsed, False
            return revived

    def lapse(self) -> S | None:
        """Return the holder if it has now been silent for watchdog_s, once for each time that it falls silent."""
        with self._lock:
            if self._holder is None or self._lapsed or self._clock_s() - self._heard_s < self._watchdog_s:
                return None
            self._lapsed = True
            self._stalls += 1
            return self._holder

    @property
    def lapses_in_s(self) -> float | None:
        """Return for how much longer the holder may be silent; None where nobody is waited for."""
        with self._lock:
            if self._holder is None or self._lapsed:
                return None
            return max(self._heard_s + self._watchdog_s - self._clock_s(), 0.0)

    def holds(self, session: S) -> bool:
        """Say whether the session has the lease, lapsed or not."""
        return self._holder is session

    def may_move(self, session: S) -> bool:
        """Say whether the session's commands may be carried out now."""
        return self._holder is session and not self._lapsed and not self._latched

    def latch(self, name: str) -> None:
        """Latch the emergency stop; pressed twice, it keeps who pressed it first."""
        with self._lock:
            if not self._latched:
                self._pressed = self._mark(name)
                self._latched = True

    def unlatch(self) -> None:
        """Release the emergency stop; idempotent."""
        with self._lock:
            if self._latched:
                self._released_s = self._clock_s()
            self._latched = False

    def require_unlatched(self) -> None:
        """Raise EmergencyStopError, saying who pressed it, when, and how to release it, while it is latched."""
        with self._lock:
            if self._latched:
                raise EmergencyStopError(
                    f"the emergency stop of {self._robot} was pressed by {self._pressed.name} at {self._pressed} "
                    f"({self._clock_s() - self._pressed.clock_s:.1f} s ago); nothing moves until it is released: "
                    "embodied stop ADDRESS --release"
                )

    def require_since_release(self, asked_s: float) -> None:
        """Raise LateError for what was asked, by the lease's clock, before the emergency stop was last released."""
        if asked_s < self._released_s:
            raise LateError(f"{self._robot} was stopped since: what was asked before the release is not carried out")

    def require_may_move(self, session: S) -> None:
        """Raise as require_unlatched does, and LateError if the session fell silent or has lost the lease."""
        self.require_unlatched()
        if not self.may_move(session):
            raise LateError(f"{self._robot} has stopped: its operator was not heard for {self._watchdog_s:g} s")

    def count_late(self, actions: int) -> None:
        """Count actions that were dropped for coming too late."""
        with self._lock:
            self._late_actions += actions

    def count_refused(self) -> None:
        """Count a request that was answered with an error."""
        with self._lock:
            self._refused_requests += 1

    @property
    def status(self) -> RobotStatus:
        """Return who holds the robot, whether it is stopped, and the counts."""
        with self._lock:
            now_s = self._clock_s()
            held, latched = self._holder is not None, self._latched
            return RobotStatus(
                holder=self._taken.name if held else "",
                held_s=now_s - self._taken.clock_s if held else 0.0,
                stopped=latched,
                stopped_by=self._pressed.name if latched else "",
                stopped_s=now_s - self._pressed.clock_s if latched else 0.0,
                late_actions=self._late_actions,
                stalls=self._stalls,
                refused_requests=self._refused_requests,
                sessions=self._sessions,
            )

    def _mark(self, name: str) -> _Mark:
        # A name is shown on other people's terminals.
        shown = "".join(c if c.isprintable() else "?" for c in name[:MAX_NAME_CHARACTERS])
        return _Mark(shown, self._clock_s(), self._wall_s())

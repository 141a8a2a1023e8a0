"""Those who watch a robot: each has room for the newest alone, so that a slow one misses steps and delays nobody."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from embodied.types import Observation, Step

MAX_WATCHERS = 8


@dataclass(frozen=True)
class Seen:
    """What the operator was shown, and the server's monotonic clock as it was made."""

    server_ns: int
    what: Observation | Step


class Seat:
    """A watcher's place: what is new since it last looked."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._status_changed = True  # it has not seen any
        self._seen: Seen | None = None
        self._left = False

    def show(self, seen: Seen | None) -> None:
        """Replace what was not looked at yet; None: the status has changed."""
        with self._news:
            if seen is None:
                self._status_changed = True
            else:
                self._seen = seen
            self._news.notify()

    def look(self) -> tuple[bool, Seen | None] | None:
        """Wait for news; return whether the status changed and what else was seen, or None once left."""
        with self._news:
            self._news.wait_for(lambda: self._left or self._status_changed or self._seen is not None)
            if self._left:
                return None
            news = self._status_changed, self._seen
            self._status_changed, self._seen = False, None
            return news

    def leave(self) -> None:
        """End the wait, now and for good; idempotent."""
        with self._news:
            self._left = True
            self._news.notify()


class Audience:
    """Everyone who watches one robot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: tuple[Seat, ...] = ()

    def join(self) -> Seat | None:
        """Return a new watcher's seat, or None where all are taken."""
        with self._lock:
            if len(self._seats) >= MAX_WATCHERS:
                return None
            seat = Seat()
            self._seats = (*self._seats, seat)
            return seat

    def leave(self, seat: Seat) -> None:
        """Free a seat."""
        seat.leave()
        with self._lock:
            self._seats = tuple(other for other in self._seats if other is not seat)

    def show(self, seen: Seen | None) -> None:
        """Show everyone what the operator was shown, or, with None, that the status has changed."""
        for seat in self._seats:
            seat.show(seen)

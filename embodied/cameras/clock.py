"""SenderClock: when a picture was taken, by our clock, from the stamp that the sender's clock gave it."""

from __future__ import annotations

# Two quartz clocks differ by some 50 ppm; what the delay seems to grow by beyond this is a queue filling up.
DRIFT = 1e-4


class SenderClock:
    """Takes the quickest delivery so far as one without delay, so that whatever comes later is known to be older.

    What even the quickest took on its way is not seen: some milliseconds on a local network.
    """

    def __init__(self) -> None:
        self._offset_ns: float | None = None  # our clock minus the sender's
        self._last_ns = 0

    def taken_ns(self, arrived_ns: int, stamp_ns: int) -> int:
        """Return when a picture that arrived at arrived_ns was taken, both by our monotonic clock."""
        offset_ns = float(arrived_ns - stamp_ns)
        if self._offset_ns is not None:
            offset_ns = min(offset_ns, self._offset_ns + DRIFT * (arrived_ns - self._last_ns))
        self._offset_ns, self._last_ns = offset_ns, arrived_ns
        return min(arrived_ns, stamp_ns + round(offset_ns))

"""Keeps a loop to the wall clock: absolute deadlines, how many were missed, and how regular its periods were."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

KEPT_PERIODS = 8192


@dataclass(frozen=True)
class Regularity:
    """How well a loop kept to its period; jitter is how far its last 8192 periods were from what they should be."""

    ticks: int
    missed: int  # deadlines at which the loop was still busy a whole period later
    jitter_p50_s: float
    jitter_p99_s: float
    jitter_max_s: float

    def __str__(self) -> str:
        jitter_ms = (f"{1e3 * at_s:.3g}" for at_s in (self.jitter_p50_s, self.jitter_p99_s, self.jitter_max_s))
        return f"{self.ticks} ticks, {self.missed} missed; jitter p50, p99, max: {', '.join(jitter_ms)} ms"


class Pace:
    """Wakes a loop every period_s; used on one thread, and looked at from any."""

    def __init__(self, period_s: float) -> None:
        """Begin now: the first deadline is a period away."""
        self._period_s = period_s
        self._jitter_s = np.zeros(KEPT_PERIODS)
        self._periods = self._ticks = self._missed = 0
        self.begin()

    def begin(self) -> None:
        """Begin again from now: what kept the loop busy until now was no tick that came late."""
        self._due_s = time.monotonic()
        self._woken_s: float | None = None

    def wait(self) -> int:
        """Sleep until the next deadline; return how many were missed since the last, which are not made up for."""
        self._due_s += self._period_s
        missed = max(0, int((time.monotonic() - self._due_s) / self._period_s))
        self._due_s += missed * self._period_s
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._note(missed)
        return missed

    @property
    def regularity(self) -> Regularity:
        """Return how well the period was kept so far."""
        jitter_s = self._jitter_s[: min(self._periods, KEPT_PERIODS)] if self._periods else np.zeros(1)
        p50, p99 = np.percentile(jitter_s, [50, 99])
        return Regularity(self._ticks, self._missed, float(p50), float(p99), float(jitter_s.max()))

    def _note(self, missed: int) -> None:
        now_s = time.monotonic()
        if self._woken_s is not None:
            self._jitter_s[self._periods % KEPT_PERIODS] = abs(now_s - self._woken_s - self._period_s)
            self._periods += 1
        self._woken_s = now_s
        self._ticks += 1
        self._missed += missed

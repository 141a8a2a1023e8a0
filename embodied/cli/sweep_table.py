"""SweepTable: how far every joint was moved, redrawn in place at a terminal, a line a joint that is done elsewhere."""

from __future__ import annotations

import sys
import time

from embodied.hardware.arm import ArmModel
from embodied.hardware.sweep import Sweep

REDRAW_S = 0.1
UP = "\x1b[{}F\x1b[J"  # to the beginning of that many lines above, and clear from there


class SweepTable:
    """Shows a sweep on standard output."""

    def __init__(self, arm: ArmModel) -> None:
        self._arm = arm
        self._live = sys.stdout.isatty()
        self._drawn_s = 0.0
        self._rows_drawn: list[str] = []
        self._done: set[str] = set()

    def show(self, sweep: Sweep) -> None:
        """Show how things are, as often as an eye can follow."""
        if self._live and time.monotonic() - self._drawn_s >= REDRAW_S:
            self._drawn_s = time.monotonic()
            self._draw(self._rows(sweep))
        elif not self._live:
            for name in self._arm.names:
                if name not in self._done and not self._wrong(sweep, name) and self._sweeps(name):
                    self._done.add(name)
                    low, _, high = sweep.degrees()[name]
                    print(f"{name} ok: {low:.1f} to {high:.1f} degrees", flush=True)

    def _draw(self, rows: list[str]) -> None:
        if rows != self._rows_drawn:
            print((UP.format(len(self._rows_drawn)) if self._rows_drawn else "") + "\n".join(rows), flush=True)
            self._rows_drawn = rows

    def say(self, line: str) -> None:
        """Print a line that stays above the table."""
        print(line, flush=True)
        self._rows_drawn = []

    def _rows(self, sweep: Sweep) -> list[str]:
        width = max(map(len, self._arm.names))
        rows = [f"{'':{width}} {'min':>8} {'now':>8} {'max':>8}  degrees"]
        for name, (low, now, high) in sweep.degrees().items():
            state = "need not be moved" if not self._sweeps(name) else self._wrong(sweep, name) or "ok"
            rows.append(f"{name:{width}} {low:8.1f} {now:8.1f} {high:8.1f}  {state}")
        return rows

    def _wrong(self, sweep: Sweep, name: str) -> str:
        return sweep.misfits().get(name, "")

    def _sweeps(self, name: str) -> bool:
        return self._arm.joints[self._arm.names.index(name)].stops

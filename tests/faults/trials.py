"""What trials of the faults measured, as one table: p50, p99 and max beside what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

SHORT, LONG = 3, 50
TRIALS = [
    pytest.param(SHORT, id=f"{SHORT} trials"),
    pytest.param(LONG, id=f"{LONG} trials", marks=pytest.mark.slow),
]


@dataclass(frozen=True)
class Row:
    """One measure of one fault."""

    fault: str
    measure: str  # with its unit
    values: list[float]
    allowed: float | None  # the most that is allowed, where something is

    def cells(self) -> tuple[str, ...]:
        p50, p99 = np.percentile(self.values, [50, 99])
        allowed = "" if self.allowed is None else f"{self.allowed:.6g}"
        numbers = (f"{number:.4g}" for number in (p50, p99, max(self.values)))
        return self.fault, self.measure, str(len(self.values)), *numbers, allowed


@dataclass
class Table:
    """The rows of one run of the tests, in the order in which they were measured."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def add(self, fault: str, measure: str, values: Sequence[float], *, allowed: float | None = None) -> None:
        """Add values to the row of that fault and measure, and fail if one is above what is allowed."""
        row = self.rows.setdefault((fault, measure), Row(fault, measure, [], allowed))
        row.values.extend(map(float, values))
        if allowed is not None:
            assert max(values) <= allowed, f"{fault}: {measure} was {max(values):.4g}, at most {allowed:.4g} is allowed"

    def add_motion(
        self, fault: str, residual_ms: Sequence[float], hiccup_ms: Sequence[float], *, allowed: float
    ) -> None:
        """Add how long a robot moved on, and fail if that is longer than allowed and than the machine was late."""
        self.add(fault, "motion after it, braking included, ms", residual_ms)
        self.add(fault, "lateness of the robot's own ticks, ms", hiccup_ms)
        beyond_ms = [max(0.0, moved - late) for moved, late in zip(residual_ms, hiccup_ms, strict=True)]
        self.add(fault, "motion after it, less that lateness, ms", beyond_ms, allowed=allowed)

    def __str__(self) -> str:
        heads = ("fault", "measure", "trials", "p50", "p99", "max", "allowed")
        lines = [heads, *(row.cells() for row in self.rows.values())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(_align, line, widths, range(len(line)))) for line in lines)


def _align(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)  # words to the left, numbers to the right

"""Draws two motions and the distance between them: a column a field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from embodied.parity import GRID_S, Motion, at, error
from embodied.types import Field

COLOURS = ("#2f6db5", "#b5482f")
PANEL_INCHES = (3.4, 2.4)


def plot_parity(path: Path, first: Motion, second: Motion, fields: Sequence[Field]) -> None:
    """Write a PNG of two motions over the time that they share."""
    start, stop = max(first.time_s[0], second.time_s[0]), min(first.time_s[-1], second.time_s[-1])
    times = np.arange(start, stop, GRID_S)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(fields), 2 * height), layout="constrained")
    panels = figure.subplots(2, len(fields), sharex=True, squeeze=False)
    for i, field in enumerate(fields):
        for motion, colour in zip((first, second), COLOURS, strict=True):
            panels[0][i].plot(times, at(motion, i, times), label=motion.name, color=colour, linewidth=1)
        panels[0][i].set(title=field.name, ylabel=field.unit)
        unit, scale = ("deg", float(np.degrees(1.0))) if field.unit == "rad" else (field.unit, 1.0)
        panels[1][i].plot(times, scale * error(first, second, i, times), color="#444444", linewidth=1)
        panels[1][i].set(xlabel="s", ylabel=f"difference, {unit}")
        for panel in (panels[0][i], panels[1][i]):
            panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=120)

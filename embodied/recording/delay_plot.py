"""Draws success and duration against delay: a column a task, a line a mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embodied.report import own_result

COLOURS = {"sync": "#b5482f", "async": "#2f6db5"}
SHIFT_MS = {"sync": -3.0, "async": 3.0}  # so that two intervals at one delay do not hide each other
PANEL_INCHES = (4.2, 3.0)

Entries = Sequence[Mapping[str, Any]]


def plot_delays(path: Path, entries: Entries, control_hz: float) -> None:
    """Write a PNG of the entries that a report has under `delays`."""
    tasks = list(entries[0]["tasks"])
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(tasks), 2 * height), layout="constrained")
    panels = figure.subplots(2, len(tasks), sharex=True, sharey="row", squeeze=False)
    for task, above, below in zip(tasks, *panels, strict=True):
        for mode in dict.fromkeys(entry["mode"] for entry in entries):
            results = [(entry["delay_ms"], entry["tasks"][task]) for entry in entries if entry["mode"] == mode]
            _draw_success(above, mode, results)
            durations_s = [result["steps_median"] / control_hz for _, result in results]
            below.plot([delay_ms for delay_ms, _ in results], durations_s, label=mode, color=COLOURS[mode], marker="o")
        above.set(title=task, ylim=(-0.03, 1.03))
        below.set(xlabel="delay of an inference, ms", ylim=(0, None))
        for panel in (above, below):
            panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("success, 95 % Wilson interval")
    panels[1][0].set_ylabel("median length of an episode, s")
    panels[1][0].legend()
    figure.savefig(path, dpi=150)


def _draw_success(panel: Axes, mode: str, results: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
    delays_ms = [delay_ms + SHIFT_MS[mode] for delay_ms, _ in results]
    own = [
        (successes / task["episodes"], low, high)
        for _, task in results
        for successes, (low, high) in [own_result(task)]
    ]
    rates = [rate for rate, _, _ in own]
    errors = [rate - low for rate, low, _ in own], [high - rate for rate, _, high in own]
    panel.errorbar(delays_ms, rates, errors, color=COLOURS[mode], marker="o", capsize=3)

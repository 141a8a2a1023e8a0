"""Draws success against delay, with Wilson intervals: a panel a task, a line a mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"sync": "#b5482f", "async": "#2f6db5"}
SHIFT_MS = {"sync": -3.0, "async": 3.0}  # so that two intervals at one delay do not hide each other
PANEL_INCHES = (4.2, 3.4)


def plot_delays(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write a PNG of the entries that a report has under `delays`."""
    tasks = list(entries[0]["tasks"])
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(tasks), height), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        for mode in dict.fromkeys(entry["mode"] for entry in entries):
            _draw(panel, mode, [(e["delay_ms"], e["tasks"][task]) for e in entries if e["mode"] == mode])
        panel.set(title=task, xlabel="delay of an inference, ms", ylim=(-0.03, 1.03))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("success, 95 % Wilson interval")
    panels[-1].legend()
    figure.savefig(path, dpi=150)


def _draw(panel: Axes, mode: str, results: Sequence[tuple[float, Mapping[str, Any]]]) -> None:
    delays_ms = [delay_ms + SHIFT_MS[mode] for delay_ms, _ in results]
    rates = [task["successes"] / task["episodes"] for _, task in results]
    below = [rate - task["wilson95"][0] for rate, (_, task) in zip(rates, results, strict=True)]
    above = [task["wilson95"][1] - rate for rate, (_, task) in zip(rates, results, strict=True)]
    panel.errorbar(delays_ms, rates, (below, above), label=mode, color=COLOURS[mode], marker="o", capsize=3)

"""Draws a training run: its curves, and where a policy's image tokens look, over the frame they looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

SIZE_INCHES = (9.0, 3.6)
HELD_OUT = "held_out_"
PACE = ("samples_per_s", "tokens_per_s", "of_matrix_rate", "waiting", "used")
HEIGHT = 160  # pixels of a frame in a picture of where tokens look
CAPTION = 14

Frame = NDArray[np.uint8]


def draw_curves(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write a PNG of a run's log: the loss and its terms, dashed as held out, and beside them every error."""
    names = dict.fromkeys(k for e in entries for k, v in e.items() if isinstance(v, float) and k not in PACE)
    losses = [name for name in names if name.removeprefix(HELD_OUT).startswith("loss")]
    figure = Figure(figsize=SIZE_INCHES)
    left, right = figure.subplots(1, 2)
    _draw(left, "loss", entries, losses)
    _draw(right, "on held-out episodes, and rollouts", entries, [name for name in names if name not in losses])
    figure.subplots_adjust(0.06, 0.14, 0.98, 0.92)
    figure.savefig(path, dpi=110)


def draw_gaze(path: Path, seen: Sequence[tuple[str, Frame, NDArray[np.float32]]]) -> None:
    """Write a PNG: a row an example (instruction, frame (H, W, 3), looked (tokens, rows, columns)), a column an
    image token.

    The first column is the frame as it was; the brighter a cell in another, the more of its token came from there.
    """
    rows = [_row(*each) for each in seen]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.write_bytes(cv2.imencode(".png", np.concatenate(rows)[..., ::-1])[1].tobytes())


def _draw(panel: Axes, title: str, entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    colours: dict[str, str] = {}
    for name in names:
        points = [(entry["step"], entry[name]) for entry in entries if isinstance(entry.get(name), float)]
        colour = colours.setdefault(name.removeprefix(HELD_OUT), f"C{len(colours) % 10}")
        line = "--" if name.startswith(HELD_OUT) else "-"
        panel.plot(*zip(*points, strict=True), color=colour, linestyle=line, marker=".", label=name.replace("_", " "))
    panel.set_title(title, fontsize=9)
    panel.set_xlabel("step")
    panel.grid(alpha=0.3)
    if any(entry[name] > 0 for entry in entries for name in names if isinstance(entry.get(name), float)):
        panel.set_yscale("log")
    if names:
        panel.legend(fontsize=5)


def _row(instruction: str, frame: Frame, looked: NDArray[np.float32]) -> Frame:
    shown = cv2.resize(frame, (HEIGHT * frame.shape[1] // frame.shape[0], HEIGHT))
    pictures = [shown, *(_lit(shown, grid) for grid in looked)]
    caption = np.zeros((CAPTION, shown.shape[1] * len(pictures), 3), np.uint8)
    cv2.putText(caption, instruction, (2, CAPTION - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 255))
    return np.concatenate([caption, np.concatenate(pictures, 1)])


def _lit(frame: Frame, grid: NDArray[np.float32]) -> Frame:
    """Return the frame darkened, but for the cells that were looked at."""
    brightness = grid / max(float(grid.max()), 1e-9)
    large = cv2.resize(brightness, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
    heat = cv2.applyColorMap((255 * large).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    lit: Frame = np.clip(0.45 * frame + 0.6 * heat, 0, 255).astype(np.uint8)
    return lit

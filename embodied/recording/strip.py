"""A film strip: eight frames of an episode in a row, with their step numbers, to see at a glance how it failed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from embodied.recording.video import FONT, GROUND, INK, write_png
from embodied.types import Frame, Observation, Step

FRAMES = 8
SIDE_PX = 224  # of a frame's height, as drawn
LINE_PX = 22
MOST_KEPT = 64  # frames while the episode runs: then every other is let go


class FilmStrip:
    """A Witness that keeps some of the frames that decisions were made on; it asks for none of its own."""

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._frames: list[tuple[int, Frame]] = []
        self._steps = self._decisions = 0
        self._stride = 1

    def began(self, observation: Observation) -> None:
        """Keep the first frame."""
        self._keep(observation)

    def decided(self, step: Step) -> None:
        """Keep the frame at the end of a decision; those between are not drawn by the robot."""
        self._steps += step.executed
        self._decisions += 1
        self._last = step.observation
        if self._decisions % self._stride == 0:
            self._keep(step.observation)

    def write(self, path: Path, caption: str) -> bool:
        """Write the strip as PNG under a caption; return whether there was a frame."""
        if not self._frames:
            return False
        if self._frames[-1][0] != self._steps:
            self._keep(self._last)
        chosen = np.unique(np.linspace(0, len(self._frames) - 1, FRAMES).round().astype(int))
        path.parent.mkdir(parents=True, exist_ok=True)
        strip = np.concatenate([_drawn(*self._frames[i]) for i in chosen], axis=1)
        write_png(path, np.concatenate([_line(caption, strip.shape[1]), strip]))
        return True

    def _keep(self, observation: Observation) -> None:
        if self._camera not in observation.frames:
            return
        self._frames.append((self._steps, observation.frames[self._camera].copy()))
        if len(self._frames) > MOST_KEPT:
            self._frames, self._stride = self._frames[::2], 2 * self._stride


def _drawn(step: int, frame: Frame) -> Frame:
    width = round(SIDE_PX * frame.shape[1] / frame.shape[0])
    view = cv2.resize(frame, (width, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return np.concatenate([view, _line(f"step {step}", width)])


def _line(text: str, width: int) -> Frame:
    line = np.full((LINE_PX, width, 3), GROUND, np.uint8)
    cv2.putText(line, text.encode("ascii", "replace").decode(), (6, LINE_PX - 7), FONT, 0.45, INK, 1, cv2.LINE_AA)
    return line

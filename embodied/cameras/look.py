"""Look: what a camera really gives, measured, and the colour in its middle: what a person can check the order by.

Nothing in a picture of an unknown scene says whether red and blue are swapped; something known to be red does.
"""

from __future__ import annotations

import colorsys
import time
from dataclasses import dataclass

import numpy as np

from embodied.cameras.reader import CameraReader
from embodied.cameras.settings import CameraError, CameraSettings
from embodied.types import Camera, Frame

SIDE_PX = 64
LOOK_S = 1.0
GREY = 0.25  # a saturation below this has no hue worth a name
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")  # a sixth of the circle each, red in the middle of its own


@dataclass(frozen=True)
class Look:
    """One camera as it was for a second."""

    label: str
    width: int
    height: int
    fps: float
    age_ms: float  # median of the newest frame's
    brightness: float  # 0..1
    middle: str  # the colour there, in a word

    def __str__(self) -> str:
        return (
            f"{self.width}x{self.height}, {self.fps:.1f} pictures a second, the newest {self.age_ms:.0f} ms old, "
            f"brightness {self.brightness:.0%}, {self.middle} in the middle"
        )


def look(settings: CameraSettings) -> Look:
    """Look through a camera for a second; raise CameraError where it gives nothing, or not what is asked of it."""
    reader = CameraReader(Camera("looked through", SIDE_PX, SIDE_PX, 50.0), settings)
    try:
        shots, end_s = [], time.monotonic() + LOOK_S
        while time.monotonic() < end_s:
            if (shot := reader.latest()).frame is not None:
                shots.append((shot.age_s, shot.frame))
            time.sleep(0.01)
        if not shots or reader.fps is None:
            raise CameraError(reader.latest().detail or f"{settings.label} gave nothing for {LOOK_S:g} s")
        width, height = reader.picture_px
        age_ms = 1e3 * float(np.median([age_s for age_s, _ in shots]))
        frame = shots[-1][1]
        return Look(settings.label, width, height, reader.fps, age_ms, float(frame.mean()) / 255, colour_name(frame))
    finally:
        reader.close()


def colour_name(frame: Frame) -> str:
    """Name the colour of the middle quarter of a frame (H, W, 3) RGB."""
    height, width = frame.shape[:2]
    middle = frame[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8]
    hue, saturation, value = colorsys.rgb_to_hsv(*(middle.mean(axis=(0, 1)) / 255))
    if value < 0.15:
        return "black"
    if saturation < GREY:
        return "white" if value > 0.8 else "grey"
    return HUES[round(hue * 6) % 6]

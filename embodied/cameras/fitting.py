"""Fit: a source's picture becomes the frame that a robot declares, by crop, size, rotation and colour order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from embodied.cameras.settings import CameraError, CameraSettings
from embodied.types import Camera, Frame

Picture = NDArray[np.uint8]  # (h, w, 3) as OpenCV gives it, BGR

ROTATE = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
SHAPE_TOLERANCE = 0.02  # of the aspect ratio: what rounding to whole pixels may cost, and no eye sees


@dataclass(frozen=True)
class Fit:
    """Cuts rows and columns of a raw picture, reduces them to size (width, height), and turns the rest upright."""

    rows: slice
    columns: slice
    size: tuple[int, int]  # of the reduced part, before it is turned
    rotate_deg: int
    colour: Literal["rgb", "bgr"]

    @classmethod
    def of(cls, shape: tuple[int, ...], camera: Camera, settings: CameraSettings) -> Fit:
        """Plan for raw pictures of shape (h, w, 3).

        Raise CameraError where the part that is cut has another shape than the frame, or fewer pixels.
        """
        height, width = shape[:2]
        turned = settings.rotate_deg in (90, 270)
        upright = (width, height) if turned else (height, width)
        crop = _middle(upright, camera) if settings.crop == "square" else settings.crop
        _check(crop, upright, camera, settings)
        y1, x1, y2, x2 = _raw(crop, settings.rotate_deg)
        rows = slice(round(y1 * height), round(y2 * height))
        columns = slice(round(x1 * width), round(x2 * width))
        size = (camera.height, camera.width) if turned else (camera.width, camera.height)
        return cls(rows, columns, size, settings.rotate_deg, settings.colour)

    def frame(self, picture: Picture) -> Frame:
        """Return picture as a frame (height, width, 3) RGB, a new array; what is costly is done once it is small."""
        part = picture[self.rows, self.columns]
        if part.shape[1::-1] != self.size:
            part = cv2.resize(part, self.size, interpolation=cv2.INTER_AREA)
        if self.rotate_deg:
            part = cv2.rotate(part, ROTATE[self.rotate_deg])
        # A view that was neither reduced nor turned would keep the source's own buffer: both ways here copy.
        frame: Frame = cv2.cvtColor(part, cv2.COLOR_BGR2RGB) if self.colour == "rgb" else np.array(part, order="C")
        return frame


def _middle(upright: tuple[int, int], camera: Camera) -> tuple[float, float, float, float]:
    """Return the largest middle part of a picture (height, width) that has the camera's shape, as fractions."""
    height, width = upright
    scale = min(height / camera.height, width / camera.width)
    y, x = camera.height * scale / height / 2, camera.width * scale / width / 2
    return 0.5 - y, 0.5 - x, 0.5 + y, 0.5 + x


def _raw(crop: tuple[float, float, float, float], rotate_deg: int) -> tuple[float, float, float, float]:
    """Return crop, a part of the upright picture, as a part of the raw one that is turned by rotate_deg clockwise."""
    y1, x1, y2, x2 = crop
    return {
        0: (y1, x1, y2, x2),
        90: (1 - x2, y1, 1 - x1, y2),
        180: (1 - y2, 1 - x2, 1 - y1, 1 - x1),
        270: (x1, 1 - y2, x2, 1 - y1),
    }[rotate_deg]


def _check(
    crop: tuple[float, float, float, float], upright: tuple[int, int], camera: Camera, settings: CameraSettings
) -> None:
    height, width = (crop[2] - crop[0]) * upright[0], (crop[3] - crop[1]) * upright[1]
    part = f"{settings.label} gives {upright[1]}x{upright[0]} upright, of which crop {settings.crop!r} leaves"
    if abs(width * camera.height / (height * camera.width) - 1) > SHAPE_TOLERANCE:
        raise CameraError(
            f"{part} {width:.0f}x{height:.0f}, which is not the shape of a frame of "
            f"{camera.width}x{camera.height}; it would be distorted: choose another crop, or 'square'"
        )
    if round(width) < camera.width or round(height) < camera.height:
        raise CameraError(
            f"{part} {width:.0f}x{height:.0f}, less than a frame of "
            f"{camera.width}x{camera.height}; ask the device for a larger width and height, or crop less"
        )

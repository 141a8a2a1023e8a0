"""Frames to JPEG and back; the rest of the project sees RGB only."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from embodied.types import Frame

# 4:4:4 keeps the colour of a cube that is six pixels wide; 95 costs about 6 kB for a frame of 128x128.
_PARAMETERS = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


def encode(frame: Frame) -> bytes:
    """Return an RGB uint8 (H, W, 3) frame as JPEG, quality 95, 4:4:4."""
    written, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), _PARAMETERS)
    if not written:
        raise ValueError(f"cv2 cannot encode a frame of shape {frame.shape}")
    return bytes(data)


def decode(data: NDArray[np.uint8]) -> Frame:
    """Return the RGB uint8 (H, W, 3) frame in data, a uint8 (n,) array; raise ValueError if it is no image."""
    frame = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if frame is None:
        raise ValueError(f"{len(data)} bytes that are no image")
    return np.asarray(frame, dtype=np.uint8)

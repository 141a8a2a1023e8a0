"""Source: anything that gives pictures one after another; what it is follows from the settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import cv2

from embodied.cameras.fitting import Picture
from embodied.cameras.settings import CameraSettings

# What goes wrong is told in a CameraError; the libraries' own lines would come before it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

SILENCE_S = 2.0  # a source that gives nothing for this long is let go of and opened again
OPEN_S = 3.0  # how long opening one may take


@dataclass(frozen=True, eq=False)
class Taken:
    """A picture and when it was taken, by this machine's monotonic clock, as exactly as the source can tell."""

    picture: Picture  # (h, w, 3) uint8 BGR
    time_ns: int


class Source(Protocol):
    """An open device, file or stream; its errors are CameraErrors that do not yet name the camera."""

    def read(self) -> Taken:
        """Wait for the next picture; raise CameraError when there will be none, or none for SILENCE_S."""

    def interrupt(self) -> None:
        """Make a read that waits on another thread return soon, where that can be done."""

    def close(self) -> None:
        """Let go of it; on the thread that reads."""


def open_source(settings: CameraSettings) -> Source:
    """Open what the settings name and ask it for what they ask; raise CameraError saying what to do."""
    if settings.kind == "device":
        from embodied.cameras.device import DeviceSource

        return DeviceSource(settings)
    if settings.kind == "file":
        from embodied.cameras.file import FileSource

        return FileSource(settings)
    if settings.is_http:
        from embodied.cameras.mjpeg import MotionJpegSource, NotMotionJpegError

        try:
            return MotionJpegSource(settings)
        except NotMotionJpegError:
            pass
    from embodied.cameras.stream import StreamSource

    return StreamSource(settings)

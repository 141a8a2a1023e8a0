"""FileSource: a video file, played in real time at its own rate, as if a camera were looking at it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2

from embodied.cameras.settings import CameraError, CameraSettings
from embodied.cameras.source import Taken

LATE_S = 0.2  # a player that is this late begins anew from now instead of leaping


class FileSource:
    """An open video file; a picture is taken at the moment at which it is due."""

    def __init__(self, settings: CameraSettings) -> None:
        """Open the file; raise CameraError if it is absent or holds no video."""
        self._path, self._loop = Path(str(settings.source)), settings.loop
        if not self._path.is_file():
            raise CameraError(f"no file {self._path}; a source is a device's number, a file or a URL")
        self._capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not self._capture.isOpened() or self.fps <= 0:
            raise CameraError(f"{self._path} holds no video that OpenCV can read")
        self._due_s = time.monotonic()
        self._woken = threading.Event()

    def read(self) -> Taken:
        """Return the picture that is due, once it is."""
        took, picture = self._capture.read()
        if not took and self._loop:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            took, picture = self._capture.read()
        if not took:
            raise CameraError(f"{self._path} is at its end; with loop=True it begins again")
        if time.monotonic() - self._due_s > LATE_S:
            self._due_s = time.monotonic()
        self._woken.wait(max(0.0, self._due_s - time.monotonic()))
        taken_ns = round(self._due_s * 1e9)
        self._due_s += 1 / self.fps
        return Taken(picture, taken_ns)

    def interrupt(self) -> None:
        """Wake a read that waits until its picture is due."""
        self._woken.set()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

"""DeviceSource: a camera on this machine, by OpenCV; on Linux through Video4Linux and its time stamps."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import cv2

from embodied.cameras.found import devices, others_holding
from embodied.cameras.settings import CameraError, CameraSettings
from embodied.cameras.source import SILENCE_S, Taken

# OpenCV waits 10 s for a picture that does not come, reads this once, and has no property for it
# (modules/videoio/src/cap_v4l.cpp, tryIoctl).
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(round(SILENCE_S)))

API = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_MSMF}.get(sys.platform, cv2.CAP_ANY)
VIDEO_MAJOR = 81  # of Linux's video devices: Documentation/admin-guide/devices.txt
OLDEST_STAMP_NS = 10_000_000_000  # a stamp further from now is by another clock


class DeviceSource:
    """An open camera device."""

    def __init__(self, settings: CameraSettings) -> None:
        """Open the device; raise CameraError if it is absent, taken, no camera, or may not be opened."""
        self._label = settings.label
        self._path = settings.label if sys.platform == "linux" else None
        if self._path:
            _require_device(self._path)
        self._capture = cv2.VideoCapture(settings.source, API)
        if not self._capture.isOpened():
            raise CameraError(_why_unopened(self._label))
        self._ask(settings)

    def read(self) -> Taken:
        """Wait for the device's next picture."""
        grabbed = self._capture.grab()
        now_ns = time.monotonic_ns()
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        took, picture = self._capture.retrieve() if grabbed else (False, None)
        if not took or picture is None:
            raise CameraError(self._why_silent())
        # The driver stamps a picture as its exposure ends, by the monotonic clock; OpenCV hands the stamp on.
        return Taken(picture, stamp_ns if 0 <= now_ns - stamp_ns <= OLDEST_STAMP_NS else now_ns)

    def interrupt(self) -> None:
        """Do nothing: a read ends by itself within SILENCE_S."""

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()

    def _ask(self, settings: CameraSettings) -> None:
        if settings.fourcc is not None:  # first, since what sizes there are depends on it
            code = cv2.VideoWriter.fourcc(*settings.fourcc)
            self._capture.set(cv2.CAP_PROP_FOURCC, code)
            if (got := int(self._capture.get(cv2.CAP_PROP_FOURCC))) != code:
                raise CameraError(
                    f"{self._label} was asked for {settings.fourcc} and gives {_four(got)}; {_SIZES_HINT}"
                )
        wishes = {
            cv2.CAP_PROP_FRAME_WIDTH: settings.width,
            cv2.CAP_PROP_FRAME_HEIGHT: settings.height,
            cv2.CAP_PROP_FPS: settings.fps,
        }
        for wish, value in wishes.items():
            if value is not None:
                self._capture.set(wish, value)
        if not self._capture.get(cv2.CAP_PROP_CONVERT_RGB):
            raise CameraError(f"{self._label} packs its pixels in a way that OpenCV cannot read; try fourcc 'MJPG'")

    def _why_silent(self) -> str:
        if self._path and not Path(self._path).exists():
            return f"{self._label} is gone: it was unplugged"
        return f"{self._label} gave no picture for {SILENCE_S:.0f} s"


_SIZES_HINT = "`v4l2-ctl --list-formats-ext` lists what it can do"


def _four(code: int) -> str:
    return code.to_bytes(4, "little").decode("ascii", "replace") if code > 0 else "an unknown format"


def _require_device(path: str) -> None:
    """Raise CameraError unless path is a device that may be opened, saying what is there instead."""
    try:
        found = os.stat(path)
    except OSError:
        there = [str(device) for device in devices()]
        listed = f"there are {there}" if there else "no camera is plugged in"
        raise CameraError(f"no device {path}; {listed} (embodied doctor lists them)") from None
    if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) != VIDEO_MAJOR:
        raise CameraError(f"{path} is no camera (embodied doctor lists them)")
    if not os.access(path, os.R_OK | os.W_OK):
        raise CameraError(f"no permission to open {path}; `sudo usermod -aG video $USER`, then log in again")


def _why_unopened(label: str) -> str:
    if taken_by := others_holding(label):
        return f"{label} is taken by {', '.join(taken_by)}; end that, or choose another camera"
    return (
        f"{label} cannot be opened as a camera; many cameras have a second device that gives no pictures: try the next "
        f"number (embodied doctor lists them)"
    )

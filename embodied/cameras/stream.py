"""StreamSource: a video stream that FFmpeg understands (RTSP, MPEG-TS, ...), read without its usual delay."""

from __future__ import annotations

import os
import threading
import time

import cv2

from embodied.cameras.clock import SenderClock
from embodied.cameras.settings import CameraError, CameraSettings
from embodied.cameras.source import OPEN_S, SILENCE_S, Taken

OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # of the process: OpenCV has no other way in
# No queue before the decoder, no guessing at the stream for seconds, and no decoder threads that each hold a picture.
PROMPT = "fflags;nobuffer|flags;low_delay|probesize;65536|analyzeduration;100000|threads;1|rtsp_transport;tcp"
_opening = threading.Lock()


class StreamSource:
    """An open stream; its time stamps tell how old a picture is."""

    def __init__(self, settings: CameraSettings) -> None:
        """Connect, within OPEN_S; raise CameraError if nobody answers with video."""
        self._label = settings.label
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(OPEN_S * 1e3)]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(SILENCE_S * 1e3)]
        with _opening:
            before = os.environ.get(OPTIONS)
            os.environ[OPTIONS] = PROMPT if before is None else before
            try:
                self._capture = cv2.VideoCapture(str(settings.source), cv2.CAP_FFMPEG, limits)
            finally:
                if before is None:
                    del os.environ[OPTIONS]
        if not self._capture.isOpened():
            raise CameraError(f"no video at {self._label}; is its server running, and may this machine reach it?")
        self._clock = SenderClock()

    def read(self) -> Taken:
        """Wait for the stream's next picture."""
        took, picture = self._capture.read()
        now_ns = time.monotonic_ns()
        if not took or picture is None:
            raise CameraError(f"{self._label} ended, or gave no picture for {SILENCE_S:.0f} s")
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return Taken(picture, self._clock.taken_ns(now_ns, stamp_ns) if stamp_ns > 0 else now_ns)

    def interrupt(self) -> None:
        """Do nothing: a read ends by itself within SILENCE_S."""

    def close(self) -> None:
        """Disconnect."""
        self._capture.release()

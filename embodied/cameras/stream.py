"""StreamSource: a video stream that FFmpeg understands (RTSP, MPEG-TS, ...), read without its usual delay."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

import cv2
import numpy as np

from embodied.cameras.clock import SenderClock
from embodied.cameras.settings import CameraError, CameraSettings
from embodied.cameras.source import OPEN_S, SILENCE_S, Taken

OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # of the process: OpenCV has no other way in
# No queue before the decoder, no guessing at the stream for seconds, and no decoder threads that each hold a picture.
PROMPT = "fflags;nobuffer|flags;low_delay|probesize;65536|analyzeduration;100000|threads;1|rtsp_transport;tcp"
# What FFmpeg holds back before it hands on a picture, which its stamps do not show: measured with H.264 in MPEG-TS, by
# pictures that say when they were sent, at 10 and 30 a second.
HELD_PICTURES = 3
_opening = threading.Lock()


class StreamSource:
    """An open stream; its time stamps tell how old a picture is, but for what it took on its way at the quickest."""

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
        self._stamps_ns: deque[int] = deque(maxlen=9)

    def read(self) -> Taken:
        """Wait for the stream's next picture."""
        took, picture = self._capture.read()
        now_ns = time.monotonic_ns()
        if not took or picture is None:
            raise CameraError(f"{self._label} ended, or gave no picture for {SILENCE_S:.0f} s")
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        taken_ns = self._clock.taken_ns(now_ns, stamp_ns) if stamp_ns > 0 else now_ns
        return Taken(picture, taken_ns - self._held_ns(stamp_ns))

    def _held_ns(self, stamp_ns: int) -> int:
        """Return how long a picture with this stamp was held back, by the pace at which they were sent lately."""
        self._stamps_ns.append(stamp_ns)
        paces_ns = sorted(np.diff(self._stamps_ns).tolist())
        return max(0, HELD_PICTURES * int(paces_ns[len(paces_ns) // 2])) if paces_ns else 0

    def interrupt(self) -> None:
        """Do nothing: a read ends by itself within SILENCE_S."""

    def close(self) -> None:
        """Disconnect."""
        self._capture.release()

"""CameraReader: the newest frame of a camera, read on a thread of its own, with its age; lost cameras are reopened."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from embodied.cameras.asked import check_rate, check_size
from embodied.cameras.fitting import Fit, Picture
from embodied.cameras.settings import CameraError, CameraSettings
from embodied.cameras.source import OPEN_S, SILENCE_S, Source, Taken, open_source
from embodied.types import Camera, Frame

READY_S = OPEN_S + 2 * SILENCE_S  # some devices take seconds until their first picture
BACK_OFF_S = (0.25, 0.5, 1.0, 2.0)  # between tries to reopen a lost camera, the last one again and again
LOST_S = SILENCE_S + 0.5  # a camera that has been silent for this long is lost, whether or not its driver says so
CLOSE_S = 0.5  # how long close waits for a read to end; a read that is stuck ends by itself later
EXIT_S = SILENCE_S + 1.0  # a thread inside OpenCV while Python ends would take the process down with it
RATE_INTERVALS = 5  # enough for a median, and no long wait at the start

State = Literal["live", "stalled", "lost"]


@dataclass(frozen=True, eq=False)
class Shot:
    """What a camera has to show now: a frame only while it is live; detail says in a sentence why there is none."""

    frame: Frame | None  # (height, width, 3) uint8 RGB
    taken_ns: int  # monotonic, of the newest picture, whether or not it is shown
    state: State
    detail: str = ""

    @property
    def age_s(self) -> float:
        """Return how old the newest picture is now."""
        return (time.monotonic_ns() - self.taken_ns) / 1e9


class CameraReader:
    """Reads a camera until it is closed; looked at from any thread."""

    def __init__(self, camera: Camera, settings: CameraSettings) -> None:
        """Open the camera and wait until it is known to give what was asked of it.

        Raise CameraError, naming the camera, what was asked, what came and what to do, if it does not.
        """
        self.camera, self.settings = camera, settings
        self.reopened = 0
        self._shot = Shot(None, time.monotonic_ns(), "lost", self._says("not open yet"))
        self._source: Source | None = None
        self._before: Picture | None = None  # the raw picture before, where repeated ones count as old
        self._repeats = 0
        self._fit: tuple[tuple[int, ...], Fit] | None = None  # for pictures of this shape
        self._taken_ns: deque[int] = deque(maxlen=RATE_INTERVALS + 1)
        self._closing, self._settled = threading.Event(), threading.Event()
        self._refusal: CameraError | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera {camera.name}", daemon=True)
        _READERS.add(self)
        self._thread.start()
        self._await_settled()

    @property
    def fps(self) -> float | None:
        """Return how many pictures a second came last, None while too few came to tell."""
        times_ns = list(self._taken_ns)
        return 1e9 / max(1.0, float(np.median(np.diff(times_ns)))) if len(times_ns) > RATE_INTERVALS else None

    @property
    def picture_px(self) -> tuple[int, int]:
        """Return the width and height of the source's own pictures."""
        height, width = self._fit[0][:2] if self._fit else (0, 0)
        return width, height

    def latest(self) -> Shot:
        """Return the newest frame if it is fresh, else why there is none; never waits."""
        shot = self._shot
        if shot.state != "live" or shot.age_s <= self.settings.stale_s:
            return shot
        only = " but the same one again, bit for bit" if self._repeats else ""
        fps = self.fps  # once: the reading thread may forget it between two looks
        usual = f" (it gave {fps:.1f} a second)" if fps else ""
        detail = self._says(f"no new picture from {self.settings.label} for {shot.age_s:.2f} s{only}{usual}")
        return replace(shot, frame=None, state="stalled" if shot.age_s <= LOST_S else "lost", detail=detail)

    def close(self) -> None:
        """End the reading; idempotent. A read that is stuck in a driver is left to end by itself."""
        self._end(CLOSE_S)

    def _end(self, timeout_s: float) -> None:
        self._closing.set()
        if (source := self._source) is not None:
            source.interrupt()
        self._thread.join(timeout_s)

    def _await_settled(self) -> None:
        if not self._settled.wait(READY_S):
            shot = self._shot
            what = "no picture" if shot.frame is None else "too few new pictures"
            same = "; it repeats one bit for bit: is its lens covered? frozen=False if not" if self._repeats else ""
            self._refusal = CameraError(self._says(f"{what} from {self.settings.label} within {READY_S:.0f} s{same}"))
        if self._refusal is not None:
            self.close()
            raise self._refusal

    def _run(self) -> None:
        tries = 0
        while not self._closing.is_set():
            opened_ns = time.monotonic_ns()
            try:
                with closing(open_source(self.settings)) as source:
                    self._source = source
                    self._read_on(source)
            except Exception as error:  # whatever it is: who looks is told, where a thread that ends would say nothing
                if not self._settled.is_set():
                    self._refusal = CameraError(self._says(_said(error)))
                    self._settled.set()
                    return
                tries = 0 if self._shot.taken_ns > opened_ns else tries + 1
                wait_s = BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)]
                self._lose(f"{_said(error)}; opening it again in {wait_s:g} s{f', try {tries + 1}' if tries else ''}")
                self._closing.wait(wait_s)

    def _read_on(self, source: Source) -> None:
        """Show what the source gives until it is lost or the reader is closed."""
        while not self._closing.is_set():
            taken = source.read()
            if not self._is_repeated(taken):
                self._show(taken)
                if not self._settled.is_set() and self.fps is not None:
                    check_rate(self.fps, self.settings)
                    self._settled.set()

    def _is_repeated(self, taken: Taken) -> bool:
        """Say whether a picture is the one before; raise CameraError once nothing else has come for long."""
        if not self.settings.watches_for_frozen:
            return False
        before, self._before = self._before, taken.picture
        if before is None or not np.array_equal(before, taken.picture):
            self._repeats = 0
            return False
        self._repeats += 1
        if self._settled.is_set() and (taken.time_ns - self._shot.taken_ns) / 1e9 > LOST_S:
            label = self.settings.label
            raise CameraError(f"{label} repeats one picture bit for bit for {LOST_S:g} s: it hangs, or is covered")
        return True

    def _show(self, taken: Taken) -> None:
        shape = taken.picture.shape
        if self._fit is None or self._fit[0] != shape:
            check_size(taken.picture, self.settings)
            self._fit = shape, Fit.of(shape, self.camera, self.settings)
        if self._shot.state == "lost" and self._settled.is_set():
            self.reopened += 1
        self._taken_ns.append(taken.time_ns)
        self._shot = Shot(self._fit[1].frame(taken.picture), taken.time_ns, "live")

    def _lose(self, why: str) -> None:
        self._taken_ns.clear()
        self._shot = Shot(None, self._shot.taken_ns, "lost", self._says(why))

    def _says(self, what: str) -> str:
        return f"camera {self.camera.name!r}: {what}"


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, CameraError | OSError) else f"{type(error).__name__}: {error}"


_READERS: weakref.WeakSet[CameraReader] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for reader in list(_READERS):
        reader._end(EXIT_S)

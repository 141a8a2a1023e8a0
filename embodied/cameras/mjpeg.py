"""MotionJpegSource: JPEG pictures over HTTP as network cameras send them, of which only the newest is decoded."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import socket
import time
import urllib.parse

import cv2
import numpy as np

from embodied.cameras.clock import SenderClock
from embodied.cameras.parts import Part, PartReader
from embodied.cameras.settings import CameraError, CameraSettings
from embodied.cameras.source import OPEN_S, SILENCE_S, Taken

READ_BYTES = 1 << 18
# After so long without a read (a process that was suspended), pictures queue here and at the sender, and nothing but
# a stamp would tell their age: a new connection begins with a new picture.
AWAY_S = 0.5
DRAIN_S = 0.5  # a picture is shown after this long even where more keep coming


class NotMotionJpegError(CameraError):
    """An answer that is no multipart stream of JPEG pictures; FFmpeg may know what it is."""


class MotionJpegSource:
    """An open stream of JPEG pictures: multipart/x-mixed-replace, each part one picture.

    FFmpeg reads these too, but hands on every picture that queued while nobody read, as if it were new.
    """

    def __init__(self, settings: CameraSettings) -> None:
        """Connect; raise CameraError if nobody answers, NotMotionJpegError if it is something else."""
        self._url, self._label = str(settings.source), settings.label
        self._left_s: float  # when the last read had its picture
        self._open()

    def read(self) -> Taken:
        """Wait for the next picture; of several that have come, return the newest."""
        newest: Part | None = None
        began_s = time.monotonic()
        if began_s - self._left_s > AWAY_S:
            self.close()
            self._open()
        while newest is None or (self._more_has_come() and time.monotonic() - began_s < DRAIN_S):
            data = self._receive()
            for part in self._parts.feed(data, time.monotonic_ns()):
                newest = part if _is_whole(part.body) else newest
            if newest is None and time.monotonic() - began_s > SILENCE_S:
                raise CameraError(f"{self._label} sent no whole picture for {SILENCE_S:.0f} s")
        self._left_s = time.monotonic()
        picture = cv2.imdecode(np.frombuffer(newest.body, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise CameraError(f"{self._label} sent a part that is no JPEG picture")
        return Taken(picture, self._taken_ns(newest))

    def interrupt(self) -> None:
        """End the read that waits."""
        with contextlib.suppress(OSError):  # it may be closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect."""
        self._response.close()
        self._connection.close()

    def _open(self) -> None:
        self._connection = _connect(self._url, self._label)
        try:
            self._socket = self._connection.sock
            self._response = _ask(self._connection, self._url, self._label)
        except BaseException:
            self._connection.close()
            raise
        self._socket.settimeout(SILENCE_S)
        self._parts = PartReader()
        self._clock: SenderClock | None = None
        self._left_s = time.monotonic()

    def _receive(self) -> bytes:
        try:
            data = self._response.read1(READ_BYTES)
        except TimeoutError:
            raise CameraError(f"{self._label} sent nothing for {SILENCE_S:.0f} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CameraError(f"{self._label} broke off: {error}") from error
        if not data:
            raise CameraError(f"{self._label} ended: its server closed the connection")
        return data

    def _more_has_come(self) -> bool:
        """Say whether the system holds bytes already: what queued while nobody read is not new."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def _taken_ns(self, part: Part) -> int:
        """Return when a part's picture was taken: by its sender's stamp if it has one, else as its first byte came."""
        if part.stamp_ns is None:
            return part.came_ns
        self._clock = self._clock or SenderClock()
        return self._clock.taken_ns(part.came_ns, part.stamp_ns)


def _is_whole(body: bytes) -> bool:
    """Say whether a JPEG picture has its beginning and its end: one cut short would decode to a half-grey frame."""
    return body.startswith(b"\xff\xd8") and body.rstrip(b"\0\r\n").endswith(b"\xff\xd9")


def _connect(url: str, label: str) -> http.client.HTTPConnection:
    where = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if where.scheme.lower() == "https" else http.client.HTTPConnection
    try:
        connection = kind(where.hostname or "", where.port, timeout=OPEN_S)
        connection.connect()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise CameraError(f"nobody answers at {label}: {error}; is its server running?") from error
    return connection


def _ask(connection: http.client.HTTPConnection, url: str, label: str) -> http.client.HTTPResponse:
    where = urllib.parse.urlsplit(url)
    headers = {}
    if where.username is not None:
        pair = f"{urllib.parse.unquote(where.username)}:{urllib.parse.unquote(where.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    target = urllib.parse.urlunsplit(("", "", where.path or "/", where.query, ""))
    try:
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise CameraError(f"{label} does not answer as a web server does: {error!r}") from error
    kind = response.headers.get_content_type()
    if response.status != http.client.OK:
        raise CameraError(f"{label} answers {response.status} {response.reason}{_hint(response.status)}")
    if kind == "image/jpeg":
        raise CameraError(f"{label} is a single picture; a camera's stream usually has another path, such as /stream")
    if kind != "multipart/x-mixed-replace":
        raise NotMotionJpegError(f"{label} is {kind}")
    return response


def _hint(status: int) -> str:
    return {401: "; its user and password go before the host: http://USER:PASSWORD@HOST/", 404: "; no such path"}.get(
        status, ""
    )

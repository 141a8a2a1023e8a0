"""PartReader: cuts a multipart stream into its parts as the bytes come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from embodied.cameras.settings import CameraError

HEADER_END = b"\r\n\r\n"
LARGEST_HEADER_BYTES = 1 << 14
LARGEST_PART_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Part:
    """One part: its bytes, when the first of them came, and its sender's stamp if it has one."""

    body: bytes
    came_ns: int
    stamp_ns: int | None


class PartReader:
    """Reads `--boundary, headers, blank line, body` again and again; a body ends by its length or the next boundary."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._came_ns: int | None = None  # when the first byte of the part in the buffer came
        self._scanned = 0

    def feed(self, data: bytes, now_ns: int) -> Iterator[Part]:
        """Take bytes that came at now_ns and yield every part that they complete."""
        if self._came_ns is None:
            self._came_ns = now_ns
        self._buffer += data
        while (part := self._next(now_ns)) is not None:
            yield part

    def _next(self, now_ns: int) -> Part | None:
        start = self._buffer.find(HEADER_END)
        if start < 0:
            if len(self._buffer) > LARGEST_HEADER_BYTES:
                raise CameraError("the stream's parts have no headers")
            return None
        headers = _headers(bytes(self._buffer[:start]))
        body = start + len(HEADER_END)
        end = self._end(headers, body)
        if end is None:
            return None
        assert self._came_ns is not None
        part = Part(bytes(self._buffer[body:end]), self._came_ns, _stamp_ns(headers))
        del self._buffer[:end]
        self._scanned = 0
        # What is left of these bytes begins the next part, unless it is only the line's end after this one.
        self._came_ns = now_ns if self._buffer.strip() else None
        return part

    def _end(self, headers: dict[bytes, bytes], body: int) -> int | None:
        """Return where the body ends, None if that has not come yet."""
        if (length := headers.get(b"content-length", b"")).isdigit():
            end = body + int(length)
        else:
            boundary = b"\r\n" + headers[b"boundary"]
            end = self._buffer.find(boundary, max(body, self._scanned - len(boundary)))
            self._scanned = len(self._buffer)
        if max(end, len(self._buffer)) - body > LARGEST_PART_BYTES and not 0 <= end <= len(self._buffer):
            raise CameraError(f"the stream has a part of more than {LARGEST_PART_BYTES >> 20} MiB")
        return end if 0 <= end <= len(self._buffer) else None


def _headers(text: bytes) -> dict[bytes, bytes]:
    """Return a part's headers in lower case, and its boundary line as "boundary"."""
    lines = text.strip(b"\r\n").split(b"\r\n")
    found = {b"boundary": lines[0].strip()}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        found[name.strip().lower()] = value.strip()
    return found


def _stamp_ns(headers: dict[bytes, bytes]) -> int | None:
    """Return X-Timestamp, seconds by the sender's clock, as mjpg-streamer and ESP32 cameras send it."""
    try:
        stamp_ns = round(float(headers[b"x-timestamp"]) * 1e9)
    except (KeyError, ValueError, OverflowError):
        return None
    return stamp_ns if stamp_ns > 0 else None

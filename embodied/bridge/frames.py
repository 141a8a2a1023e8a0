"""How the frames of one session cross: raw, as JPEG or through shared memory, as both ends agree at its beginning."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from google.protobuf.message import Message

from embodied.bridge import jpeg
from embodied.bridge.address import MAX_MESSAGE_BYTES
from embodied.bridge.envelope import frame_field, raw_field, require_frame, unpack
from embodied.bridge.shared_memory import CannotShareError, FrameReader, FrameWriter, SharedMemory
from embodied.errors import EmbodiedError, ProtocolError
from embodied.types import Camera, Frame
from embodied.v1 import types_pb2 as pb

M = TypeVar("M", bound=Message)

Encoding = Literal["raw", "jpeg", "shared"]
CHOICES = "raw, jpeg, jpeg:QUALITY (1 to 100) and shared"

_CODES: dict[Encoding, pb.FrameEncoding] = {
    "raw": pb.FRAME_ENCODING_RAW,
    "jpeg": pb.FRAME_ENCODING_JPEG,
    "shared": pb.FRAME_ENCODING_SHARED,
}
_ENCODINGS: dict[int, Encoding] = {code: encoding for encoding, code in _CODES.items()}

log = logging.getLogger(__name__)


class CannotEncodeError(Exception):
    """Why this end cannot do an encoding."""


@dataclass(frozen=True)
class FrameWish:
    """How a client would have its frames, best first."""

    encodings: tuple[Encoding, ...] = ("shared", "raw")
    quality: int = jpeg.DEFAULT_QUALITY

    @classmethod
    def parse(cls, text: str | None) -> FrameWish:
        """Read one encoding, then the only one that will do, or None for the best; raise EmbodiedError otherwise."""
        if text is None:
            return cls()
        encoding, colon, quality = text.partition(":")
        if encoding not in _CODES or (colon and (encoding != "jpeg" or not _is_quality(quality))):
            raise EmbodiedError(f"frames cannot cross as {text!r}; they can as {CHOICES}")
        return cls((encoding,), int(quality) if quality else jpeg.DEFAULT_QUALITY)


class FrameCodec:
    """One end of a session's frames, a client's or a server's: packs them into messages and unpacks them again."""

    def __init__(self, cameras: Sequence[Camera] = (), *, quality: int = jpeg.DEFAULT_QUALITY) -> None:
        """Begin raw; cameras are those whose frames may cross in another way."""
        self.encoding: Encoding = "raw"
        self._cameras = {camera.name: camera for camera in cameras}
        self._quality = quality
        self._offered: tuple[Encoding, ...] = ("raw",)
        self._memory: SharedMemory | None = None
        self._writer: FrameWriter | None = None
        self._reader: FrameReader | None = None
        self._descriptor: int | None = None  # of memory that the server has yet to open

    @classmethod
    def offer(cls, cameras: Sequence[Camera], frames: str | None = None) -> tuple[Self, pb.FrameOffer]:
        """Return a client's end, raw until it is settled, and the offer to send.

        frames is what FrameWish.parse reads. Raise EmbodiedError for one encoding asked for that cannot be had here.
        """
        wish = FrameWish.parse(frames)
        codec, offer = cls(cameras, quality=wish.quality), pb.FrameOffer(jpeg_quality=wish.quality)
        offered: list[Encoding] = []
        for encoding in wish.encodings:
            try:
                codec._prepare(encoding, offer)
            except CannotEncodeError as why:
                if len(wish.encodings) == 1:
                    raise EmbodiedError(f"frames cannot cross as {frames!r} from here: {why}") from why
            else:
                offered.append(encoding)
        codec._offered = tuple(offered)
        offer.encodings.extend(_CODES[encoding] for encoding in offered)
        return codec, offer

    def settle(self, choice: pb.FrameChoice) -> None:
        """Take what the server chose; raise ProtocolError if it was not on offer."""
        chosen = _ENCODINGS.get(choice.encoding or pb.FRAME_ENCODING_RAW)
        if chosen not in self._offered:
            raise ProtocolError(f"the server chose frame encoding {chosen or choice.encoding}, not of {self._offered}")
        self._use(chosen)

    @classmethod
    def accept(cls, offer: pb.FrameOffer, cameras: Sequence[Camera]) -> tuple[Self, pb.FrameChoice]:
        """Return a server's end, of the first encoding offered that works here, and the choice to send.

        Raise ProtocolError, saying why, where none does.
        """
        if offer.jpeg_quality > 100:
            raise ProtocolError(f"a JPEG quality of {offer.jpeg_quality}; it is from 1 to 100")
        codec, reasons = cls(cameras, quality=offer.jpeg_quality or jpeg.DEFAULT_QUALITY), []
        for code in offer.encodings or [pb.FRAME_ENCODING_RAW]:
            if (encoding := _ENCODINGS.get(code)) is None:
                reasons.append(f"encoding {code} is unknown")
                continue
            try:
                codec._open(encoding, offer)
            except CannotEncodeError as why:
                reasons.append(f"{encoding}: {why}")
            else:
                codec._use(encoding)
                return codec, pb.FrameChoice(encoding=_CODES[encoding])
        raise ProtocolError(f"frames cannot cross in any way that the client offers: {'; '.join(reasons)}")

    def pack(self, envelope: Message, frames: Mapping[str, Frame]) -> bytes:
        """Return the envelope's bytes with the frames; raise ProtocolError for one that is not uint8 (H, W, 3)."""
        for name, frame in frames.items():
            require_frame(name, frame)
        parts = [envelope.SerializeToString()]
        for name, frame in frames.items():
            field = self._field(name, frame)
            parts += raw_field(name, frame) if field is None else [field]
        return b"".join(parts)

    def unpack(self, kind: type[M], data: bytes) -> tuple[M, dict[str, Frame]]:
        """Return the envelope and its frames, which stay valid; raise ProtocolError for what is none."""
        return unpack(kind, data, self._read)

    def close(self) -> None:
        """Let go of shared memory, which lasts for as long as a frame in it is held; idempotent."""
        self._memory = self._writer = self._reader = None
        self._close_descriptor()

    def _prepare(self, encoding: Encoding, offer: pb.FrameOffer) -> None:
        """Put into the offer what an encoding needs; raise CannotEncodeError where it cannot be had."""
        if encoding == "jpeg":
            self._require_jpeg()
        if encoding == "shared":
            try:
                self._memory, told, self._descriptor = SharedMemory.create(list(self._cameras.values()))
            except CannotShareError as error:
                raise CannotEncodeError(str(error)) from error
            offer.shared.CopyFrom(told)

    def _open(self, encoding: Encoding, offer: pb.FrameOffer) -> None:
        """Make ready for an encoding; raise CannotEncodeError where it cannot be had."""
        if encoding == "jpeg":
            self._require_jpeg()
        if encoding == "shared":
            try:
                self._memory = SharedMemory.open(offer.shared)
            except CannotShareError as error:
                log.info("no shared memory: %s", error)  # not for the client: it could feel its way around this host
                raise CannotEncodeError(
                    "the client's memory cannot be opened here; it takes one host, one container and one user"
                ) from error

    def _require_jpeg(self) -> None:
        if not jpeg.is_installed():
            raise CannotEncodeError(jpeg.MISSING)
        if any(max(camera.height, camera.width) > jpeg.MAX_SIDE for camera in self._cameras.values()):
            raise CannotEncodeError(f"a JPEG has at most {jpeg.MAX_SIDE} pixels a side")
        if (size := sum(c.height * c.width * 3 for c in self._cameras.values())) > MAX_MESSAGE_BYTES:
            raise CannotEncodeError(f"frames of {size} bytes; decoded they may have {MAX_MESSAGE_BYTES}")

    def _use(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._close_descriptor()
        if encoding != "shared":
            self._memory = None
        elif self._memory is not None:
            cameras = list(self._cameras.values())
            self._writer, self._reader = FrameWriter(self._memory, cameras), FrameReader(self._memory, cameras)

    def _close_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _field(self, name: str, frame: Frame) -> bytes | None:
        """Return the frame's field in the envelope in the session's encoding; None: it goes raw."""
        if self._writer is not None:
            return self._writer.write(name, frame)
        camera = self._cameras.get(name)
        if self.encoding == "raw" or camera is None or frame.shape[:2] != (camera.height, camera.width):
            return None
        return frame_field(pb.Frame(camera=name, jpeg=jpeg.encode_jpeg(frame, self._quality)))

    def _read(self, frame: pb.Frame) -> Frame:
        """Return the frame of a message that is not raw; raise ProtocolError for what this session has none of."""
        match frame.WhichOneof("content"):
            case "shared" if self._reader is not None:
                return self._reader.read(frame.camera, frame.shared)
            case "jpeg" if self.encoding == "jpeg" and (camera := self._cameras.get(frame.camera)):
                return jpeg.decode_jpeg(camera, frame.jpeg)
            case content:
                raise ProtocolError(
                    f"frame {frame.camera!r} has {content or 'no'} content; this session reads raw"
                    f"{'' if self.encoding == 'raw' else f' and {self.encoding}, of {sorted(self._cameras)}'}"
                )


def _is_quality(text: str) -> bool:
    with suppress(ValueError):
        return 1 <= int(text) <= 100
    return False

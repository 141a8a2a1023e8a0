"""How the frames of one session cross: raw, as JPEG, or through shared memory, as the two ends agree at its beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self, TypeVar

from google.protobuf.message import Message

from embodied.bridge.envelope import pack, unpack
from embodied.errors import ProtocolError
from embodied.types import Camera, Frame
from embodied.v1 import types_pb2 as pb

M = TypeVar("M", bound=Message)

Encoding = Literal["raw", "jpeg", "shared"]
PREFERRED: tuple[Encoding, ...] = ("shared", "raw")


class FrameCodec:
    """One end of a session's frames, a client's or a server's: packs them into messages and unpacks them again."""

    def __init__(self, encoding: Encoding = "raw") -> None:
        self.encoding = encoding  # what this end packs with; it unpacks whatever the session allows

    @classmethod
    def offer(cls, cameras: Sequence[Camera], encodings: Sequence[Encoding] = PREFERRED) -> tuple[Self, pb.FrameOffer]:
        """Return a client's end, raw until it is settled, and the offer to send."""
        return cls(), pb.FrameOffer(encodings=[pb.FRAME_ENCODING_RAW])

    def settle(self, choice: pb.FrameChoice) -> None:
        """Take what the server chose; raise ProtocolError if it was not on offer."""
        if choice.encoding not in (pb.FRAME_ENCODING_UNSPECIFIED, pb.FRAME_ENCODING_RAW):
            raise ProtocolError(f"the server chose frame encoding {choice.encoding}, which was not offered")

    @classmethod
    def accept(cls, offer: pb.FrameOffer, cameras: Sequence[Camera]) -> tuple[Self, pb.FrameChoice]:
        """Return a server's end, of the first encoding offered that works here, and the choice to send."""
        return cls(), pb.FrameChoice(encoding=pb.FRAME_ENCODING_RAW)

    def pack(self, envelope: Message, frames: Mapping[str, Frame]) -> bytes:
        """Return the envelope's bytes with the frames; raise ProtocolError for one that is not uint8 (H, W, 3)."""
        return pack(envelope, frames)

    def unpack(self, kind: type[M], data: bytes) -> tuple[M, dict[str, Frame]]:
        """Return the envelope and its frames, which stay valid; raise ProtocolError for what is none."""
        return unpack(kind, data)

    def close(self) -> None:
        """Let go of shared memory; idempotent."""

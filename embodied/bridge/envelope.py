"""Packs a message and its frames into bytes with one copy of the frames, and unpacks them with none.

Protobuf's own classes copy a frame four times on its way, and for two 224 x 224 frames that takes longer than the wire.
What crosses is plain protobuf all the same: a length-delimited field is a key, a length and the bytes, so that frames
can be appended to a serialised message (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from embodied.bridge.arrays import decode_array
from embodied.errors import ProtocolError
from embodied.types import Frame
from embodied.v1 import types_pb2 as pb

M = TypeVar("M", bound=Message)

FRAMES = 2  # the number of the field `repeated Frame frames` in every envelope
FRAME_RAW = pb.Frame.DESCRIPTOR.fields_by_name["raw"].number
ARRAY_DATA = pb.Array.DESCRIPTOR.fields_by_name["data"].number
MAX_FIELDS = 256  # in one message: a sender of more means harm
MAX_ENVELOPE_BYTES = 8 * 1024 * 1024  # of a message without its frames: parsed, it may take many times its size
SMALL_BYTES = 4096  # up to here protobuf's own classes are quicker than taking frames out of a message by hand

_DELIMITED = 2  # wire type


def pack(envelope: Message, frames: Mapping[str, Frame]) -> bytes:
    """Return the envelope's bytes with the frames, raw, in its field `frames`.

    Raise ProtocolError for a frame that is not uint8 (H, W, 3).
    """
    parts: list[Any] = [envelope.SerializeToString()]
    for name, frame in frames.items():
        require_frame(name, frame)
        parts += raw_field(name, frame)
    return b"".join(parts)


def raw_field(name: str, frame: Frame) -> list[Any]:
    """Return the parts of a raw frame's field, to be joined to an envelope's bytes."""
    return [_frame_head(name, frame.shape), np.ascontiguousarray(frame)]


def frame_field(frame: pb.Frame) -> bytes:
    """Return the field of a frame that is small, to be joined to an envelope's bytes."""
    data = frame.SerializeToString()
    return _head(FRAMES, len(data)) + data


def require_frame(name: str, frame: NDArray[Any]) -> None:
    """Raise ProtocolError for what is not uint8 (H, W, 3)."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ProtocolError(f"frame {name!r} must be uint8 (H, W, 3), got {frame.dtype}{frame.shape}")


def refuse_content(frame: pb.Frame) -> Frame:
    """Raise ProtocolError for a frame that is not raw."""
    raise ProtocolError(f"frame {frame.camera!r} has no content that this version reads; it reads raw")


def unpack(
    kind: type[M], data: bytes, read: Callable[[pb.Frame], Frame] = refuse_content
) -> tuple[M, dict[str, Frame]]:
    """Return the envelope without its frames, and the frames; raw ones are read-only views of data.

    read is given each frame that is not raw. Raise ProtocolError for what is no message of this kind, or has a frame
    that is none.
    """
    if len(data) <= SMALL_BYTES:
        envelope: Any = parse(kind, data)
        found = [(frame.camera, _decode_small(frame, read)) for frame in envelope.frames]
        envelope.ClearField("frames")
    else:
        rest, fields = _split(memoryview(data), FRAMES)
        envelope, found = parse(kind, rest), [_decode_frame(field, read) for field in fields]
    frames = dict(found)
    if len(frames) != len(found):
        raise ProtocolError(f"two frames of one camera among {sorted(frames)}")
    return envelope, frames


def parse(kind: type[M], data: bytes) -> M:
    """Return the message; raise ProtocolError if data is none of this kind, or larger than any needs to be."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise ProtocolError(
            f"a {kind.DESCRIPTOR.name} of {len(data)} bytes beside its frames; at most {MAX_ENVELOPE_BYTES} are read"
        )
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProtocolError(f"not a {kind.DESCRIPTOR.name}: {error}") from error


def _decode_small(frame: pb.Frame, read: Callable[[pb.Frame], Frame]) -> Frame:
    if not frame.HasField("raw"):
        return read(frame)
    pixels = decode_array(frame.raw)
    require_frame(frame.camera, pixels)
    return pixels


def _decode_frame(data: memoryview, read: Callable[[pb.Frame], Frame]) -> tuple[str, Frame]:
    rest, content = _split(data, FRAME_RAW)
    frame = parse(pb.Frame, rest)
    if not content:
        return frame.camera, read(frame)
    head, pixels = _split(content[-1], ARRAY_DATA)
    array = decode_array(parse(pb.Array, head), pixels[-1] if pixels else b"")
    require_frame(frame.camera, array)
    return frame.camera, array


@lru_cache(maxsize=64)
def _frame_head(name: str, shape: Sequence[int]) -> bytes:
    """Return all of a frame's field that comes before its pixels."""
    size = int(np.prod(shape))
    array = pb.Array(dtype=pb.DTYPE_UINT8, shape=shape).SerializeToString() + _head(ARRAY_DATA, size)
    frame = pb.Frame(camera=name).SerializeToString() + _head(FRAME_RAW, len(array) + size) + array
    return _head(FRAMES, len(frame) + size) + frame


def _head(number: int, length: int) -> bytes:
    return _encode_varint(number << 3 | _DELIMITED) + _encode_varint(length)


def _split(data: memoryview, number: int) -> tuple[bytes, list[memoryview]]:
    """Return the message without its length-delimited fields of this number, and what is in those."""
    kept, found = [], []
    for count, (key, start, content, end) in enumerate(_fields(data)):
        if count >= MAX_FIELDS:
            raise ProtocolError(f"a message with more than {MAX_FIELDS} fields")
        if key == number << 3 | _DELIMITED:
            found.append(data[content:end])
        else:
            kept.append(data[start:end])
    return b"".join(kept), found


def _fields(data: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield every field's key, start, start of content and end; raise ProtocolError where there is no field."""
    end = 0
    while end < len(data):
        start = end
        key, content = _decode_varint(data, start)
        match key & 7:
            case 2:
                length, content = _decode_varint(data, content)
                end = content + length
            case 0:
                end = _decode_varint(data, content)[1]
            case 1:
                end = content + 8
            case 5:
                end = content + 4
            case other:
                raise ProtocolError(f"not a protobuf message: wire type {other}")
        if end > len(data):
            raise ProtocolError("not a protobuf message: it ends in the middle of a field")
        yield key, start, content, end


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at an offset and the offset after it."""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ProtocolError("not a protobuf message: a number that does not end")

"""Frames to JPEG and back, for wires that are slower than the compression; needs OpenCV, and only when it is used."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from embodied.errors import ProtocolError
from embodied.types import Camera, Frame
from embodied.v1 import types_pb2 as pb

DEFAULT_QUALITY = 90
MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
MISSING = "OpenCV is not installed; pip install 'embodied-runtime[record]'"

_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"
_START_OF_FRAME = (0xC0, 0xC1)  # baseline and extended: decoders need little more memory than the pixels
_BEFORE = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # tables, a comment, what applications add
_MAX_SEGMENTS = 64


def is_installed() -> bool:
    """Say whether frames can be compressed here, without importing what does it."""
    return importlib.util.find_spec("cv2") is not None


def encode_jpeg(frame: Frame, quality: int) -> pb.Jpeg:
    """Return the frame compressed, 4:4:4: the colour of a cube that is six pixels wide is kept."""
    import cv2

    parameters = (
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    )
    bgr = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2BGR)  # cv2 reads no negative strides
    _, data = cv2.imencode(".jpg", bgr, parameters)
    return pb.Jpeg(height=frame.shape[0], width=frame.shape[1], data=data.tobytes())


def decode_jpeg(camera: Camera, message: pb.Jpeg) -> Frame:
    """Return the frame, read-only; raise ProtocolError naming the camera for an image that is broken or not its size.

    Its size is read from its head before anything is decoded, so that a small message cannot claim much memory.
    """
    import cv2

    name, wanted = camera.name, (camera.height, camera.width)
    for said, where in (((message.height, message.width), "message"), (_size(name, message.data), "JPEG")):
        if said != wanted:
            raise ProtocolError(
                f"frame {name!r} is {said[0]} x {said[1]} in its {where}; the camera has {wanted[0]} x {wanted[1]}"
            )
    if not message.data.endswith(_END):  # the decoder would fill what is missing with grey
        raise ProtocolError(f"frame {name!r} is a JPEG cut short after {len(message.data)} bytes")
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame: Any = cv2.imdecode(np.frombuffer(message.data, np.uint8), flags)
    except cv2.error:
        frame = None
    if frame is None or frame.shape != (*wanted, 3):
        raise ProtocolError(f"frame {name!r} is a JPEG that cannot be decoded")
    frame.flags.writeable = False
    return np.asarray(frame, np.uint8)


def _size(name: str, data: bytes) -> tuple[int, int]:
    """Return height and width as the head of the JPEG says (ITU-T T.81, B.2.2), read as strictly as can be.

    What a decoder might read in another way than we do is refused.
    """
    at = len(_BEGIN)
    for _ in range(_MAX_SEGMENTS if data.startswith(_BEGIN) else 0):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4])
        if len(marker) < 2 or marker[0] != 0xFF or length < 2:
            break
        if marker[1] in _START_OF_FRAME and at + 9 <= len(data):
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        if marker[1] not in _BEFORE:
            break
        at += 2 + length
    raise ProtocolError(f"frame {name!r} is no baseline JPEG")

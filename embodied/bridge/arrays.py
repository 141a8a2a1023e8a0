"""Arrays on the wire: little-endian bytes with dtype and shape, checked before they are believed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import ProtocolError
from embodied.v1 import types_pb2 as pb

MAX_DIMENSIONS = 8

_WIRE_DTYPES: dict[pb.DType, np.dtype[Any]] = {
    pb.DTYPE_UINT8: np.dtype("u1"),
    pb.DTYPE_INT32: np.dtype("<i4"),
    pb.DTYPE_INT64: np.dtype("<i8"),
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_FLOAT64: np.dtype("<f8"),
    pb.DTYPE_BOOL: np.dtype("?"),
}
_DTYPE_CODES = {dtype: code for code, dtype in _WIRE_DTYPES.items()}


def encode_array(array: NDArray[Any]) -> pb.Array:
    """Return the message of an array; raise ProtocolError for a dtype that may not cross the wire."""
    code = _DTYPE_CODES.get(array.dtype)
    if code is None:  # of the other byte order, or of a kind that is not sent
        array = array.astype(array.dtype.newbyteorder("<"))
        code = _DTYPE_CODES.get(array.dtype)
    if code is None:
        raise ProtocolError(f"an array of {array.dtype} cannot be sent; the wire has {sorted(map(str, _DTYPE_CODES))}")
    return pb.Array(dtype=code, shape=array.shape, data=array.tobytes())


def decode_array(message: pb.Array, data: bytes | memoryview | None = None) -> NDArray[Any]:
    """Return the array, a read-only view of its bytes; raise ProtocolError unless dtype, shape and size agree.

    data is given where the bytes were kept out of the message.
    """
    dtype = _WIRE_DTYPES.get(message.dtype)
    if dtype is None:
        raise ProtocolError(f"array has dtype code {message.dtype}; the wire has {sorted(_WIRE_DTYPES)}")
    shape = tuple(message.shape)
    if len(shape) > MAX_DIMENSIONS:
        raise ProtocolError(f"array has {len(shape)} dimensions; at most {MAX_DIMENSIONS} may be sent")
    if data is None:
        data = message.data
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ProtocolError(f"array {dtype}{shape} came with {len(data)} bytes of data")
    return np.frombuffer(data, dtype).reshape(shape)


def decode_vector(message: pb.Array, what: str) -> NDArray[np.float32]:
    """Return a float32 (n,) array; raise ProtocolError naming what for anything else."""
    array = decode_array(message)
    if array.dtype != np.float32 or array.ndim != 1:
        raise ProtocolError(f"{what} must be float32 (n,), got {array.dtype}{array.shape}")
    return array

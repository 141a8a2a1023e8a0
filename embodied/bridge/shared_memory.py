"""Memory that both ends of a session map: frames are written into it by one end and read in place by the other.

The client makes it (memfd_create(2)), so that nothing is left behind however either end dies, and seals its size, so
that no end can make the other fault. It begins with a nonce; then come blocks, a frame each, wherever the end that
sends frames puts them: a byte that says whose turn it is, and ALIGN_BYTES on the pixels. Only the sender marks a block
as full and only the receiver marks it as free again, so that a frame is never overwritten while it is looked at, and
never copied twice.
"""

from __future__ import annotations

import hmac
import mmap
import os
import secrets
import stat
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.bridge.address import MAX_MESSAGE_BYTES
from embodied.bridge.envelope import frame_field
from embodied.errors import ProtocolError
from embodied.types import Camera, Frame
from embodied.v1 import types_pb2 as pb

NONCE_BYTES = 16
ALIGN_BYTES = 64  # a cache line: of the nonce, of every block's turn and of its pixels
BLOCKS_PER_CAMERA = 4  # two that the receiver may keep, one that it is given and one to write
LENT_PER_CAMERA = 2  # of frames that are kept longer than these, the receiver makes copies
MAX_SHARED_BYTES = BLOCKS_PER_CAMERA * MAX_MESSAGE_BYTES

_FREE, _FULL = 0, 1


class CannotShareError(Exception):
    """Why memory cannot be shared; the session then takes the next encoding on offer."""


class SharedMemory:
    """Sealed memory, mapped; it is given back once neither this nor a frame within it is held."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map the sealed memory behind a descriptor, which the caller may close."""
        self.map = mmap.mmap(descriptor, size)

    @classmethod
    def create(cls, cameras: Sequence[Camera]) -> tuple[SharedMemory, pb.SharedMemory, int]:
        """Return memory for the cameras' frames, what tells the far end of it, and the descriptor for it to open.

        The caller closes the descriptor once the far end has answered. Raise CannotShareError where none can be made.
        """
        size = ALIGN_BYTES + BLOCKS_PER_CAMERA * sum(_block_bytes(camera) for camera in cameras)
        if size > MAX_SHARED_BYTES:
            raise CannotShareError(f"the cameras would need {size} bytes; at most {MAX_SHARED_BYTES} are shared")
        if sys.platform != "linux":
            raise CannotShareError("memory can be sealed on Linux only")
        import fcntl

        nonce = secrets.token_bytes(NONCE_BYTES)
        descriptor = os.memfd_create("embodied", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            memory = cls(descriptor, size)
        except OSError as error:
            os.close(descriptor)
            raise CannotShareError(f"memory of {size} bytes: {error.strerror}") from error
        memory.map[:NONCE_BYTES] = nonce
        return memory, pb.SharedMemory(pid=os.getpid(), descriptor=descriptor, size=size, nonce=nonce), descriptor

    @classmethod
    def open(cls, told: pb.SharedMemory) -> SharedMemory:
        """Map the memory that a client tells of; raise CannotShareError unless it is what it must be.

        It is believed only where the kernel lets this user open that process's descriptor, and there is sealed memory
        of this user with the nonce: a client on another host, or one that means harm, names something else.
        """
        if sys.platform != "linux":
            raise CannotShareError("memory can be opened on Linux only")
        if len(told.nonce) != NONCE_BYTES:
            raise CannotShareError(f"a nonce of {len(told.nonce)} bytes; it has {NONCE_BYTES}")
        if not ALIGN_BYTES <= told.size <= MAX_SHARED_BYTES:
            raise CannotShareError(f"memory of {told.size} bytes; from {ALIGN_BYTES} to {MAX_SHARED_BYTES} are shared")
        try:
            memory = cls._open_checked(f"/proc/{told.pid}/fd/{told.descriptor}", told.size)
        except OSError as error:
            raise CannotShareError(f"descriptor {told.descriptor} of process {told.pid}: {error.strerror}") from error
        if not hmac.compare_digest(memory.map[:NONCE_BYTES], told.nonce):
            raise CannotShareError("memory that begins with another nonce")
        return memory

    @classmethod
    def _open_checked(cls, path: str, size: int) -> SharedMemory:
        # O_PATH looks without opening: to open a pipe may block, and a device may act on it.
        there = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(there)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise CannotShareError("a descriptor of something else than memory of this user")
            descriptor = os.open(f"/proc/self/fd/{there}", os.O_RDWR | os.O_CLOEXEC)
        finally:
            os.close(there)
        try:
            _require_sealed(descriptor, size)
            return cls(descriptor, size)
        finally:
            os.close(descriptor)


class FrameWriter:
    """The sender's end: copies frames into blocks that the receiver has let go of."""

    def __init__(self, memory: SharedMemory, cameras: Sequence[Camera]) -> None:
        """Lay out blocks for the cameras in as much of the memory as they need, or as there is."""
        self._map = memory.map
        self._turn = threading.Lock()
        self._blocks: dict[str, list[_Block]] = {camera.name: [] for camera in cameras}
        at = ALIGN_BYTES
        for camera in [*cameras] * BLOCKS_PER_CAMERA:
            if (end := at + _block_bytes(camera)) <= len(self._map):
                self._blocks[camera.name].append(_Block.at(self._map, at, camera))
                at = end

    def write(self, name: str, frame: Frame) -> bytes | None:
        """Copy the frame into a free block and return its field in the envelope; None where no block is free."""
        block = self._claim(name, frame.shape)
        if block is None:
            return None
        np.copyto(block.pixels, frame)
        return block.field

    def _claim(self, name: str, shape: tuple[int, ...]) -> _Block | None:
        with self._turn:
            for block in self._blocks.get(name, ()):
                if self._map[block.turn] == _FREE and block.pixels.shape == shape:
                    self._map[block.turn] = _FULL
                    return block
        return None


class FrameReader:
    """The receiver's end: hands out frames in place, and lets go of each when nobody holds it any more."""

    def __init__(self, memory: SharedMemory, cameras: Sequence[Camera]) -> None:
        self._map = memory.map
        self._view = memoryview(memory.map).toreadonly()
        self._lent: dict[str, dict[int, weakref.ref[NDArray[np.uint8]]]] = {camera.name: {} for camera in cameras}

    def read(self, name: str, told: pb.SharedFrame) -> Frame:
        """Return the frame, which stays as it is while it is held; raise ProtocolError for one that is not there."""
        turn, size = told.offset - ALIGN_BYTES, told.height * told.width * 3
        if told.offset % ALIGN_BYTES or turn < ALIGN_BYTES or not 0 < size <= len(self._map) - told.offset:
            raise ProtocolError(
                f"frame {name!r} of {told.height} x {told.width} pixels at {told.offset} does not lie in the "
                f"{len(self._map)} bytes of shared memory"
            )
        lent = self._lent.get(name)
        if lent is None:
            raise ProtocolError(f"frame {name!r} is of no camera of this session; it has {sorted(self._lent)}")
        if self._map[turn] != _FULL or turn in lent:
            raise ProtocolError(f"frame {name!r} at {told.offset} of shared memory was not handed over")
        pixels = np.frombuffer(self._view, np.uint8, size, told.offset)
        if len(lent) < LENT_PER_CAMERA:
            lent[turn] = weakref.ref(pixels, lambda _: self._release(lent, turn))
        else:
            pixels = pixels.copy()
            pixels.flags.writeable = False  # as the others are
            self._map[turn] = _FREE
        return pixels.reshape(told.height, told.width, 3)

    def _release(self, lent: dict[int, weakref.ref[NDArray[np.uint8]]], turn: int) -> None:
        del lent[turn]
        self._map[turn] = _FREE


@dataclass(frozen=True)
class _Block:
    turn: int
    pixels: NDArray[np.uint8]  # (H, W, 3), in the memory
    field: bytes  # that tells of it in an envelope

    @classmethod
    def at(cls, memory: mmap.mmap, start: int, camera: Camera) -> _Block:
        offset, shape = start + ALIGN_BYTES, (camera.height, camera.width, 3)
        pixels = np.frombuffer(memory, np.uint8, camera.height * camera.width * 3, offset).reshape(shape)
        told = pb.SharedFrame(offset=offset, height=camera.height, width=camera.width)
        return cls(start, pixels, frame_field(pb.Frame(camera=camera.name, shared=told)))


def _block_bytes(camera: Camera) -> int:
    """Return how much a frame takes with its turn before it, aligned."""
    pixels = camera.height * camera.width * 3
    return ALIGN_BYTES + -(-pixels // ALIGN_BYTES) * ALIGN_BYTES


def _require_sealed(descriptor: int, size: int) -> None:
    """Raise CannotShareError unless the memory has this size and keeps it: else its maker could make us fault."""
    import fcntl

    needed = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & needed != needed:
        raise CannotShareError("memory that is not sealed against shrinking and growing")
    if (found := os.fstat(descriptor).st_size) != size:
        raise CannotShareError(f"memory of {found} bytes where {size} were told of")

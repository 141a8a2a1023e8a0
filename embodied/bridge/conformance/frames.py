"""Checks of frames: every camera where asked for, raw unless the session's two ends agreed on something else."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from numpy.typing import NDArray

from embodied.bridge.arrays import decode_array
from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.verdict import NonconformityError, NotApplicableError, require
from embodied.errors import ProtocolError
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

NAMES: dict[int, str] = {
    types.FRAME_ENCODING_RAW: "raw",
    types.FRAME_ENCODING_JPEG: "jpeg",
    types.FRAME_ENCODING_SHARED: "shared",
}
UNKNOWN_ENCODING = cast(types.FrameEncoding, 99)  # of a version to come
JPEG_BEGINS = b"\xff\xd8\xff"
JPEG_BASELINE = 0xC0  # the marker of a baseline frame's header: ITU-T T.81, table B.1
ALIGN_BYTES = 64  # of pixels in shared memory; as far before them is the byte that says whose turn it is
FULL, FREE = 1, 0
ROOM = 8  # for so many frames of each camera


def come_when_asked_for(bench: Bench) -> None:
    """A step brings a frame of every camera if it asks for frames, and none if it does not."""
    session = bench.begin()
    require_frames(session.step(session.hold, frames=True), bench.spec)
    found = [frame.camera for frame in session.step(session.hold, frames=False).frames]
    require(not found, "no frames of a step that asked for none", found)


def are_raw_where_nothing_is_offered(bench: Bench) -> None:
    """A session whose client offers no encoding, or raw alone, has raw frames."""
    for offer in (None, types.FrameOffer(encodings=[types.FRAME_ENCODING_RAW])):
        chosen = _choice(bench, offer)
        require(chosen == types.FRAME_ENCODING_RAW, "raw frames where raw or nothing was offered", _name(chosen))


def are_of_an_encoding_on_offer(bench: Bench) -> str:
    """The encoding of a session's frames is the first that the client offered and the server can do."""
    bench.needs_motion()
    done = []
    for encoding in (types.FRAME_ENCODING_JPEG, types.FRAME_ENCODING_SHARED, UNKNOWN_ENCODING):
        with _offer(bench.spec, encoding) as (offer, memory):
            session = bench.stream()
            chosen = session.ask(bench.request(frames=offer), "opened").opened.frames.encoding
            allowed = {encoding, types.FRAME_ENCODING_RAW} - {UNKNOWN_ENCODING}
            require(chosen in allowed, f"one of {sorted(map(_name, allowed))}, which were offered", _name(chosen))
            session.keep_alive()
            for reply in (session.reset(), session.step(session.hold, frames=True)):
                require_frames(reply, bench.spec, chosen, memory)
            done.append(f"{_name(encoding)} or raw offered, {_name(chosen)} taken")
            session.end()
        bench.wait_until_free()
    return "; ".join(done)


def in_shared_memory_equal_raw_ones(bench: Bench) -> None:
    """Frames in shared memory hold the pixels that raw ones do, and leave the nonce at its beginning alone."""
    bench.needs_simulation("comparing two episodes")
    session = bench.begin()
    raw = pixels(session.last, bench.spec)
    session.end()
    bench.wait_until_free()
    with _offer(bench.spec, types.FRAME_ENCODING_SHARED) as (offer, memory):
        session = bench.stream()
        chosen = session.ask(bench.request(frames=offer), "opened").opened.frames.encoding
        if chosen != types.FRAME_ENCODING_SHARED:
            raise NotApplicableError("the server does not take shared memory of this client")
        shared = pixels(session.reset(), bench.spec, memory)
        require(memory[:16] == offer.shared.nonce, "the nonce left as it was", "that it was written over")
        session.end()
    unlike = [name for name in raw if name not in shared or not np.array_equal(raw[name], shared[name])]
    require(not unlike, "the same pixels as raw", f"others of {unlike}")


CHECKS = (
    come_when_asked_for,
    are_raw_where_nothing_is_offered,
    are_of_an_encoding_on_offer,
    in_shared_memory_equal_raw_ones,
)


def require_frames(
    reply: pb.ControlReply,
    spec: types.RobotSpec,
    encoding: int = types.FRAME_ENCODING_RAW,
    memory: bytes | mmap.mmap = b"",
) -> None:
    """Raise NonconformityError unless the reply has one frame of each camera, of its size and of the encoding."""
    found = sorted(frame.camera for frame in reply.frames)
    wanted = sorted(camera.name for camera in spec.cameras)
    require(found == wanted, f"one frame of each of {wanted}", found)
    for frame in reply.frames:
        content = frame.WhichOneof("content")
        right = content in (NAMES[encoding], "raw")  # raw is what there is no room for, or no other way
        require(right, f"frame {frame.camera!r} to be {NAMES[encoding]}", content)
    pixels(reply, spec, memory)


def pixels(
    reply: pb.ControlReply, spec: types.RobotSpec, memory: bytes | mmap.mmap = b""
) -> dict[str, NDArray[np.uint8]]:
    """Return the pixels of raw and shared frames, none of a JPEG; raise NonconformityError for one of another size."""
    sizes = {camera.name: (camera.height, camera.width, 3) for camera in spec.cameras}
    found = {}
    for frame in reply.frames:
        require(frame.camera in sizes, f"frames of {sorted(sizes)} alone", repr(frame.camera))
        wanted = sizes[frame.camera]
        what = f"frame {frame.camera!r} to be uint8 {wanted}"
        if frame.HasField("raw"):
            array = _raw(frame)
            require(array.dtype == np.uint8 and array.shape == wanted, what, f"{array.dtype} {array.shape}")
            found[frame.camera] = array
        elif frame.HasField("jpeg"):
            said, inside = (frame.jpeg.height, frame.jpeg.width, 3), _jpeg_shape(frame)
            require(said == inside == wanted, what, f"a JPEG of {inside} that is said to be {said}")
        else:
            found[frame.camera] = _shared(frame, wanted, memory)
    return found


def _raw(frame: types.Frame) -> NDArray[np.uint8]:
    try:
        return decode_array(frame.raw)
    except ProtocolError as error:
        raise NonconformityError(f"frame {frame.camera!r}: {error}") from error


def _shared(frame: types.Frame, wanted: tuple[int, int, int], memory: bytes | mmap.mmap) -> NDArray[np.uint8]:
    """Return the pixels of a frame in shared memory, and let go of it."""
    said = (frame.shared.height, frame.shared.width, 3)
    what, begin = f"frame {frame.camera!r}", frame.shared.offset
    require(said == wanted, f"{what} to be {wanted}", said)
    end = begin + int(np.prod(wanted))
    require(begin % ALIGN_BYTES == 0, f"{what} at a multiple of {ALIGN_BYTES}", begin)
    inside = begin >= 2 * ALIGN_BYTES and end <= len(memory)
    require(inside, f"{what} between {2 * ALIGN_BYTES} and {len(memory)} of shared memory", f"[{begin}, {end})")
    assert isinstance(memory, mmap.mmap)  # there are no bytes to lie within otherwise
    require(memory[begin - ALIGN_BYTES] == FULL, f"{what} to be marked as full", memory[begin - ALIGN_BYTES])
    pixels = np.frombuffer(memory[begin:end], np.uint8).reshape(wanted)
    memory[begin - ALIGN_BYTES] = FREE
    return pixels


def _jpeg_shape(frame: types.Frame) -> tuple[int, int, int]:
    """Return (height, width, 3) as the header of the JPEG's own frame says."""
    data, at = frame.jpeg.data, 2
    require(
        data[:3] == JPEG_BEGINS, f"frame {frame.camera!r} to be a JPEG", f"{len(data)} bytes that begin {data[:3]!r}"
    )
    while at + 9 < len(data) and data[at] == 0xFF:
        if data[at + 1] == JPEG_BASELINE:
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big"), 3
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise NonconformityError(f"frame {frame.camera!r} is a JPEG without the header of a baseline frame")


def _choice(bench: Bench, offer: types.FrameOffer | None) -> int:
    session = bench.stream()
    chosen: int = session.ask(bench.request(frames=offer), "opened").opened.frames.encoding
    session.end()
    bench.wait_until_free()
    return chosen or types.FRAME_ENCODING_RAW  # a server that knows raw alone may leave the choice out


def _name(encoding: int) -> str:
    return NAMES.get(encoding, f"encoding {encoding}")


@contextmanager
def _offer(
    spec: types.RobotSpec, encoding: types.FrameEncoding
) -> Iterator[tuple[types.FrameOffer, bytes | mmap.mmap]]:
    """Yield an offer of the encoding, else raw, and the shared memory behind it."""
    both = [encoding, types.FRAME_ENCODING_RAW]
    if encoding != types.FRAME_ENCODING_SHARED:
        yield types.FrameOffer(encodings=both, jpeg_quality=90), b""
        return
    if not hasattr(os, "memfd_create"):
        raise NotApplicableError("this machine makes no shared memory (memfd_create is Linux's)")
    size = ALIGN_BYTES + ROOM * sum(3 * c.height * c.width + 2 * ALIGN_BYTES for c in spec.cameras)
    nonce = secrets.token_bytes(16)
    descriptor = os.memfd_create("embodied-check", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        with mmap.mmap(descriptor, size) as memory:
            memory[:16] = nonce
            shared = types.SharedMemory(pid=os.getpid(), descriptor=descriptor, size=size, nonce=nonce)
            yield types.FrameOffer(encodings=both, shared=shared), memory
    finally:
        os.close(descriptor)

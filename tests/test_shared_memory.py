"""Shared memory: frames are read in place, never torn, and nothing that a peer says can make the other end fault."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embodied.bridge.shared_memory import (
    ALIGN_BYTES,
    BLOCKS_PER_CAMERA,
    LENT_PER_CAMERA,
    MAX_SHARED_BYTES,
    CannotShareError,
    FrameReader,
    FrameWriter,
    SharedMemory,
)
from embodied.errors import ProtocolError
from embodied.types import Camera, Frame
from embodied.v1 import policy_pb2
from embodied.v1 import types_pb2 as pb

ROOT = Path(__file__).parents[1]
CAMERAS = (Camera("front", 48, 64, 45.0), Camera("wrist", 5, 7, 70.0))
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
RANDOM = np.random.default_rng(0)


def frame_of(camera: Camera) -> Frame:
    return RANDOM.integers(0, 256, (camera.height, camera.width, 3), np.uint8)


def told_of(field: bytes | None) -> pb.SharedFrame:
    assert field is not None
    (frame,) = policy_pb2.ActRequest.FromString(field).frames
    return frame.shared


class Ends:
    """Both ends of one memory: the sender's in the client, the receiver's in the server."""

    def __init__(self) -> None:
        self.memory, self.told, self.descriptor = SharedMemory.create(CAMERAS)
        self.opened = SharedMemory.open(self.told)
        self.writer, self.reader = FrameWriter(self.memory, CAMERAS), FrameReader(self.opened, CAMERAS)

    def send(self, camera: Camera, frame: Frame) -> Frame | None:
        field = self.writer.write(camera.name, frame)
        return None if field is None else self.reader.read(camera.name, told_of(field))


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    os.close(ends.descriptor)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_a_frame_is_read_in_place_and_cannot_be_written(ends: Ends, camera: Camera) -> None:
    for _ in range(3 * BLOCKS_PER_CAMERA):
        sent = frame_of(camera)
        seen = ends.send(camera, sent)
        np.testing.assert_array_equal(seen, sent, strict=True)
        assert np.shares_memory(seen, np.frombuffer(ends.opened.map, np.uint8))
        with pytest.raises(ValueError, match="read-only"):
            seen[0] = 0
        del seen


def test_frames_that_are_kept_stay_as_they_are_and_the_next_still_come(ends: Ends) -> None:
    sent = [frame_of(CAMERAS[0]) for _ in range(5 * BLOCKS_PER_CAMERA)]
    kept = [ends.send(CAMERAS[0], frame) for frame in sent]
    for seen, frame in zip(kept, sent, strict=True):
        np.testing.assert_array_equal(seen, frame, strict=True)
        assert not seen.flags.writeable
    in_place = [np.shares_memory(seen, np.frombuffer(ends.opened.map, np.uint8)) for seen in kept]
    assert in_place == [True] * LENT_PER_CAMERA + [False] * (len(sent) - LENT_PER_CAMERA)


def test_a_part_of_a_frame_keeps_the_frame(ends: Ends) -> None:
    sent = frame_of(CAMERAS[0])
    part = ends.send(CAMERAS[0], sent)[::2, ::-1].reshape(-1)[5:]
    gc.collect()
    for _ in range(3 * BLOCKS_PER_CAMERA):
        ends.send(CAMERAS[0], frame_of(CAMERAS[0]))
    np.testing.assert_array_equal(part, sent[::2, ::-1].reshape(-1)[5:])


def test_requests_in_flight_each_have_their_own_block_and_one_too_many_has_none(ends: Ends) -> None:
    sent = [frame_of(CAMERAS[0]) for _ in range(BLOCKS_PER_CAMERA)]
    told = [told_of(ends.writer.write("front", frame)) for frame in sent]
    assert ends.writer.write("front", frame_of(CAMERAS[0])) is None
    for message, frame in zip(told, sent, strict=True):
        np.testing.assert_array_equal(ends.reader.read("front", message), frame, strict=True)
    assert ends.writer.write("front", sent[0]) is not None


def test_a_frame_of_no_camera_or_of_another_size_has_no_block(ends: Ends) -> None:
    assert ends.writer.write("back", frame_of(CAMERAS[0])) is None
    for _ in range(2 * BLOCKS_PER_CAMERA):
        assert ends.writer.write("front", frame_of(CAMERAS[1])) is None
    assert ends.writer.write("front", frame_of(CAMERAS[0])) is not None


def test_a_view_that_is_not_contiguous_is_sent_as_it_looks(ends: Ends) -> None:
    frame = frame_of(CAMERAS[0])[::-1, ::-1]
    np.testing.assert_array_equal(ends.send(CAMERAS[0], frame), frame)


def test_frames_outlive_both_ends() -> None:
    ends = Ends()
    sent = frame_of(CAMERAS[0])
    seen = ends.send(CAMERAS[0], sent)
    os.close(ends.descriptor)
    del ends
    gc.collect()
    np.testing.assert_array_equal(seen, sent, strict=True)
    del seen
    gc.collect()
    assert "memfd:embodied" not in Path("/proc/self/maps").read_text()


SIZE = 48 * 64 * 3


@pytest.mark.parametrize(
    ("offset", "height", "width"),
    [
        (0, 48, 64),
        (ALIGN_BYTES, 1, 1),  # its turn would be the nonce
        (2 * ALIGN_BYTES + 1, 48, 64),
        (2 * ALIGN_BYTES, 0, 64),
        (2 * ALIGN_BYTES, 2**32 - 1, 2**32 - 1),
        (2**63, 48, 64),
        (2**64 - ALIGN_BYTES, 48, 64),
    ],
)
def test_a_frame_that_does_not_lie_in_the_memory_is_refused(ends: Ends, offset: int, height: int, width: int) -> None:
    with pytest.raises(ProtocolError, match=r"frame 'front' of .* does not lie in"):
        ends.reader.read("front", pb.SharedFrame(offset=offset, height=height, width=width))


def test_the_last_byte_of_the_memory_is_the_last_that_is_read(ends: Ends) -> None:
    size = len(ends.opened.map)
    last = size - ALIGN_BYTES
    ends.memory.map[last - ALIGN_BYTES] = 1
    assert ends.reader.read("front", pb.SharedFrame(offset=last, height=1, width=ALIGN_BYTES // 3)).size == 63
    with pytest.raises(ProtocolError, match="does not lie in"):
        ends.reader.read("front", pb.SharedFrame(offset=last, height=1, width=ALIGN_BYTES // 3 + 1))


def test_a_frame_that_was_not_handed_over_or_is_held_already_is_refused(ends: Ends) -> None:
    told = told_of(ends.writer.write("front", frame_of(CAMERAS[0])))
    held = ends.reader.read("front", told)
    with pytest.raises(ProtocolError, match="was not handed over"):
        ends.reader.read("front", told)
    del held
    with pytest.raises(ProtocolError, match="was not handed over"):
        ends.reader.read("front", told)
    with pytest.raises(ProtocolError, match=r"of no camera of this session; it has \['front', 'wrist'\]"):
        ends.reader.read("back", told)


def sealed(size: int, nonce: bytes, seals: int = SEALS) -> int:
    descriptor = os.memfd_create("theirs", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    os.pwrite(descriptor, nonce, 0)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def told_as(descriptor: int, size: int = 4096, nonce: bytes = bytes(16), pid: int = 0) -> pb.SharedMemory:
    return pb.SharedMemory(pid=pid or os.getpid(), descriptor=descriptor, size=size, nonce=nonce)


def test_memory_with_another_nonce_is_refused() -> None:
    descriptor = sealed(4096, b"n" * 16)
    SharedMemory.open(told_as(descriptor, nonce=b"n" * 16))
    with pytest.raises(CannotShareError, match="another nonce"):
        SharedMemory.open(told_as(descriptor, nonce=b"m" * 16))
    for nonce in (b"", b"n" * 15, b"n" * 17):
        with pytest.raises(CannotShareError, match=f"a nonce of {len(nonce)} bytes"):
            SharedMemory.open(told_as(descriptor, nonce=nonce))
    os.close(descriptor)


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW])
def test_memory_that_could_shrink_under_the_reader_is_refused(seals: int) -> None:
    descriptor = sealed(4096, bytes(16), seals)
    with pytest.raises(CannotShareError, match="not sealed"):
        SharedMemory.open(told_as(descriptor))
    os.close(descriptor)


def test_memory_that_cannot_be_written_is_refused() -> None:
    descriptor = sealed(4096, bytes(16), SEALS | fcntl.F_SEAL_WRITE)
    with pytest.raises(CannotShareError, match="Operation not permitted"):
        SharedMemory.open(told_as(descriptor))
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, ALIGN_BYTES - 1, MAX_SHARED_BYTES + 1, 2**64 - 1])
def test_memory_of_no_size_or_a_huge_one_is_refused(size: int) -> None:
    with pytest.raises(CannotShareError, match=f"memory of {size} bytes"):
        SharedMemory.open(told_as(0, size=size))


@pytest.mark.parametrize("size", [4095, 4097, 1 << 20])
def test_memory_of_another_size_than_it_is_said_to_have_is_refused(size: int) -> None:
    descriptor = sealed(4096, bytes(16))
    with pytest.raises(CannotShareError, match=f"memory of 4096 bytes where {size} were told of"):
        SharedMemory.open(told_as(descriptor, size=size))
    os.close(descriptor)


def test_a_process_or_descriptor_that_is_not_there_is_refused() -> None:
    descriptor = sealed(4096, bytes(16))
    os.close(descriptor)
    for told in (told_as(descriptor), told_as(2**32 - 1), told_as(0, pid=2**32 - 1)):
        with pytest.raises(CannotShareError, match="No such file"):
            SharedMemory.open(told)


def test_what_is_no_memory_is_refused_and_not_even_opened(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    fifo = tmp_path / "fifo"  # to open one end of it blocks until there is another
    os.mkfifo(fifo)
    others = [read_end, write_end, os.open("/dev/zero", os.O_RDWR), os.open(tmp_path, os.O_RDONLY)]
    others.append(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    for descriptor in others:
        with pytest.raises(CannotShareError, match="something else than memory"):
            SharedMemory.open(told_as(descriptor))
        os.close(descriptor)


def test_somebodys_file_is_refused_and_left_as_it_is() -> None:
    for folder in {tempfile.gettempdir(), "/dev/shm"}:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            with pytest.raises(CannotShareError, match=r"not sealed|Invalid argument"):
                SharedMemory.open(told_as(file.fileno()))
            assert Path(file.name).read_bytes() == bytes(4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_memory_of_another_user_is_refused_even_by_root() -> None:
    code = (
        "import os; os.setuid(65534)\n"
        "d = os.memfd_create('theirs', os.MFD_ALLOW_SEALING); os.ftruncate(d, 4096); print(d, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        descriptor = int(other.stdout.readline())
        with pytest.raises(CannotShareError, match="something else than memory of this user"):
            SharedMemory.open(told_as(descriptor, pid=other.pid))
        other.kill()


def test_cameras_too_large_to_share_are_told_before_anything_is_made() -> None:
    with pytest.raises(CannotShareError, match=f"at most {MAX_SHARED_BYTES}"):
        SharedMemory.create([Camera("sky", 20_000, 20_000, 45.0)])


def test_memory_too_small_for_every_block_holds_what_fits() -> None:
    memory, _, descriptor = SharedMemory.create(CAMERAS[1:])
    writer = FrameWriter(memory, CAMERAS)
    assert writer.write("front", frame_of(CAMERAS[0])) is None
    assert writer.write("wrist", frame_of(CAMERAS[1])) is not None
    os.close(descriptor)


def test_nothing_is_left_when_the_other_end_is_killed_in_the_middle_of_a_frame() -> None:
    code = (
        "from tests.test_shared_memory import *\n"
        "memory, told, _ = SharedMemory.create(CAMERAS); writer = FrameWriter(memory, CAMERAS)\n"
        "field = writer.write('front', np.full((48, 64, 3), 7, np.uint8))\n"
        "print(told.SerializeToString().hex(), field.hex(), flush=True)\n"
        "while True: memory.map[4096:8192] = bytes(4096)"
    )
    client = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    told, field = map(bytes.fromhex, client.stdout.readline().split())
    memory = SharedMemory.open(pb.SharedMemory.FromString(told))
    client.send_signal(signal.SIGKILL)
    client.communicate()
    reader = FrameReader(memory, CAMERAS)
    seen = reader.read("front", told_of(field))
    assert seen[0, 0, 0] == 7  # no fault: the pages are as much ours as theirs
    del seen, reader, memory
    gc.collect()
    assert "memfd:embodied" not in Path("/proc/self/maps").read_text()

"""Frames cross as each session agrees: every encoding gives the same robot, and what cannot be had is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.bridge import jpeg
from embodied.bridge.envelope import MAX_ENVELOPE_BYTES, SMALL_BYTES
from embodied.bridge.frames import FrameCodec, FrameWish
from embodied.errors import EmbodiedError, ProtocolError
from embodied.types import Camera, Frame
from embodied.v1 import policy_pb2, robot_pb2
from embodied.v1 import types_pb2 as pb

ROOT = Path(__file__).parents[1]
CAMERAS = (Camera("front", 96, 128, 45.0), Camera("wrist", 48, 64, 70.0))
RAW, JPEG, SHARED = pb.FRAME_ENCODING_RAW, pb.FRAME_ENCODING_JPEG, pb.FRAME_ENCODING_SHARED


def smooth(camera: Camera, seed: int = 0) -> Frame:
    """Return a frame that JPEG keeps almost as it is: a gradient in each colour."""
    y, x = np.mgrid[: camera.height, : camera.width]
    return np.stack([y * 2, x, (x + y + seed) % 256], axis=-1).astype(np.uint8)


FRAMES = {camera.name: smooth(camera) for camera in CAMERAS}
REQUEST = policy_pb2.ActRequest(sequence=7, observation=pb.Observation(time_ns=9))


def agree(frames: str | None) -> tuple[FrameCodec, FrameCodec]:
    """Return a client's end and a server's end that have agreed."""
    client, offer = FrameCodec.offer(CAMERAS, frames)
    server, choice = FrameCodec.accept(offer, CAMERAS)
    client.settle(choice)
    return client, server


@pytest.mark.parametrize(
    ("frames", "encoding"),
    [(None, "shared"), ("shared", "shared"), ("raw", "raw"), ("jpeg", "jpeg"), ("jpeg:40", "jpeg")],
)
def test_what_is_asked_for_is_agreed_on_and_frames_cross_both_ways(frames: str | None, encoding: str) -> None:
    for up in (True, False):
        client, server = agree(frames)
        assert (client.encoding, server.encoding) == (encoding, encoding)
        sender, receiver = (client, server) if up else (server, client)
        for _ in range(10):
            envelope, seen = receiver.unpack(policy_pb2.ActRequest, sender.pack(REQUEST, FRAMES))
            assert envelope == REQUEST and list(seen) == list(FRAMES)
            for name, frame in seen.items():
                assert frame.shape == FRAMES[name].shape and frame.dtype == np.uint8 and not frame.flags.writeable
                difference = np.abs(frame.astype(int) - FRAMES[name])
                assert difference.mean() < 3 if encoding == "jpeg" else not difference.any()
        client.close()
        server.close()
        client.close()


def test_a_shared_frame_takes_a_few_bytes_and_a_jpeg_a_few_more() -> None:
    sizes = {frames: len(agree(frames)[0].pack(REQUEST, FRAMES)) for frames in ("shared", "jpeg:50", "jpeg:95", "raw")}
    assert sizes["shared"] < 120 < sizes["jpeg:50"] < sizes["jpeg:95"] < sizes["raw"] / 3


def test_no_offer_means_raw() -> None:
    codec, choice = FrameCodec.accept(pb.FrameOffer(), CAMERAS)
    assert (codec.encoding, choice.encoding) == ("raw", RAW)
    client, _ = FrameCodec.offer(CAMERAS)
    client.settle(pb.FrameChoice())  # a server that knows no encodings
    assert client.encoding == "raw"


@pytest.mark.parametrize("wrong", ["", "png", "raw:1", "shared:2", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:x", "JPEG"])
def test_an_encoding_that_there_is_not_is_refused_with_the_choices(wrong: str) -> None:
    with pytest.raises(EmbodiedError, match=r"raw, jpeg, jpeg:QUALITY \(1 to 100\) and shared"):
        FrameWish.parse(wrong)


def test_memory_that_the_server_cannot_open_falls_back_to_raw_only_where_that_is_offered() -> None:
    client, offer = FrameCodec.offer(CAMERAS)
    offer.shared.nonce = bytes(16)  # as from a client on another host
    server, choice = FrameCodec.accept(offer, CAMERAS)
    client.settle(choice)
    assert (client.encoding, server.encoding) == ("raw", "raw")
    _, offer = FrameCodec.offer(CAMERAS, "shared")
    offer.shared.nonce = bytes(16)
    with pytest.raises(ProtocolError, match="shared: the client's memory cannot be opened here; it takes one host"):
        FrameCodec.accept(offer, CAMERAS)


def test_a_server_of_another_time_is_told_that_it_knows_none_of_the_encodings() -> None:
    with pytest.raises(ProtocolError, match="encoding 99 is unknown; encoding 0 is unknown"):
        FrameCodec.accept(pb.FrameOffer(encodings=[99, 0]), CAMERAS)  # type: ignore[list-item]
    codec, _ = FrameCodec.accept(pb.FrameOffer(encodings=[99, RAW]), CAMERAS)  # type: ignore[list-item]
    assert codec.encoding == "raw"


def test_a_choice_that_was_not_offered_is_refused() -> None:
    for frames, choice in (("raw", SHARED), ("shared", RAW), ("shared", 0), ("raw", 99), (None, JPEG)):
        client, _ = FrameCodec.offer(CAMERAS, frames)
        with pytest.raises(ProtocolError, match="the server chose frame encoding"):
            client.settle(pb.FrameChoice(encoding=choice))  # type: ignore[arg-type]
        client.close()


def test_without_opencv_jpeg_is_told_on_either_end_and_all_else_works() -> None:
    code = (
        "import sys; sys.modules['cv2'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'cv2' else find(name, *rest)\n"
        "from embodied.bridge.frames import FrameCodec; from embodied.errors import EmbodiedError\n"
        "from embodied.v1 import types_pb2 as pb\n"
        "only = pb.FrameOffer(encodings=[2])\n"
        "for work in (lambda: FrameCodec.offer([], 'jpeg'), lambda: FrameCodec.accept(only, [])):\n"
        "    try: work()\n"
        "    except EmbodiedError as error: print(error)\n"
        "print(FrameCodec.accept(pb.FrameOffer(encodings=[2, 1]), [])[0].encoding)\n"
        "client, offer = FrameCodec.offer([]); print(FrameCodec.accept(offer, [])[0].encoding)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    here, there, fallback, shared = result.stdout.splitlines()
    assert here == f"frames cannot cross as 'jpeg' from here: {jpeg.MISSING}"
    assert there == f"frames cannot cross in any way that the client offers: jpeg: {jpeg.MISSING}"
    assert (fallback, shared) == ("raw", "shared")


def test_a_frame_that_is_not_its_cameras_goes_raw_whatever_was_agreed() -> None:
    odd = {"front": smooth(CAMERAS[1]), "back": smooth(CAMERAS[0])}
    for frames in ("shared", "jpeg", "raw"):
        client, server = agree(frames)
        _, seen = server.unpack(policy_pb2.ActRequest, client.pack(REQUEST, odd))
        for name, frame in odd.items():
            np.testing.assert_array_equal(seen[name], frame, strict=True)


@pytest.mark.parametrize("frames", ["shared", "jpeg:95", "raw"])
def test_a_frame_that_is_a_view_crosses_as_it_looks(frames: str) -> None:
    client, server = agree(frames)
    turned = {name: frame[::-1, ::-1] for name, frame in FRAMES.items()}
    _, seen = server.unpack(policy_pb2.ActRequest, client.pack(REQUEST, turned))
    for name, frame in turned.items():
        assert np.abs(seen[name].astype(int) - frame).mean() < 3


def test_more_frames_in_flight_than_the_memory_holds_go_raw() -> None:
    client, server = agree("shared")
    sent = [{c.name: smooth(c, seed) for c in CAMERAS} for seed in range(9)]
    for frames, data in zip(sent, [client.pack(REQUEST, frames) for frames in sent], strict=True):
        _, seen = server.unpack(policy_pb2.ActRequest, data)
        for name, frame in frames.items():
            np.testing.assert_array_equal(seen[name], frame, strict=True)


def test_a_frame_that_is_none_is_refused_before_a_block_is_taken_for_the_others() -> None:
    client, _ = agree("shared")
    for _ in range(20):
        with pytest.raises(ProtocolError, match="'wrist' must be uint8"):
            client.pack(REQUEST, {**FRAMES, "wrist": np.zeros((4, 4))})
    assert len(client.pack(REQUEST, FRAMES)) < 120


def message_of(**content: object) -> bytes:
    frame = pb.Frame(camera="front", **content)  # type: ignore[arg-type]
    return policy_pb2.ActRequest(frames=[frame]).SerializeToString()


@pytest.mark.parametrize("size", [1, SMALL_BYTES])
def test_content_that_was_not_agreed_on_is_refused(size: int) -> None:
    shared, compressed = {"shared": pb.SharedFrame()}, {"jpeg": pb.Jpeg(data=bytes(size))}
    for frames, content in (("raw", shared), ("raw", compressed), ("jpeg", shared), ("shared", compressed)):
        _, server = agree(frames)
        with pytest.raises(ProtocolError, match=r"'front' has .* content; this session reads raw"):
            server.unpack(policy_pb2.ActRequest, message_of(**content))
    with pytest.raises(ProtocolError, match="'front' has no content"):
        agree("raw")[1].unpack(policy_pb2.ActRequest, message_of())


def test_a_message_too_large_to_be_parsed_is_refused_unparsed() -> None:
    flood = robot_pb2.ControlReply(step=pb.Step(timing_ns={"x": 1})).SerializeToString() * (MAX_ENVELOPE_BYTES // 8)
    with pytest.raises(ProtocolError, match=r"more than 256 fields|bytes beside its frames"):
        agree("shared")[1].unpack(robot_pb2.ControlReply, flood)
    long = policy_pb2.ActRequest(begin=policy_pb2.Begin(instruction="x" * MAX_ENVELOPE_BYTES)).SerializeToString()
    with pytest.raises(ProtocolError, match="bytes beside its frames"):
        agree("shared")[1].unpack(policy_pb2.ActRequest, long)


# --------------------------------------------------------------------------------------------------------- JPEG


FRONT = CAMERAS[0]


def compressed(frame: Frame = FRAMES["front"]) -> pb.Jpeg:
    return jpeg.encode_jpeg(frame, 90)


def changed(data: bytes) -> pb.Jpeg:
    return pb.Jpeg(height=FRONT.height, width=FRONT.width, data=data)


def refuse(message: pb.Jpeg, match: str) -> None:
    server = agree("jpeg")[1]
    with pytest.raises(ProtocolError, match=f"frame 'front' is {match}"):
        server.unpack(policy_pb2.ActRequest, message_of(jpeg=message))


def test_a_jpeg_cut_short_is_refused_wherever_it_is_cut() -> None:
    data = compressed().data
    for length in [*range(0, len(data), 7), len(data) - 1]:
        refuse(changed(data[:length]), "(a JPEG cut short|no baseline JPEG)")


def test_a_jpeg_of_another_size_is_refused_whoever_says_so() -> None:
    other = compressed(FRAMES["wrist"])
    refuse(other, "48 x 64 in its message; the camera has 96 x 128")
    refuse(changed(other.data), "48 x 64 in its JPEG; the camera has 96 x 128")


def start_of_frame(data: bytes) -> int:
    return data.index(b"\xff\xc0")


def test_a_jpeg_that_claims_to_be_huge_is_refused_undecoded() -> None:
    data = bytearray(compressed().data)
    at = start_of_frame(data)
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    refuse(changed(bytes(data)), "65535 x 65535 in its JPEG")


def test_a_progressive_jpeg_and_what_is_no_jpeg_are_refused() -> None:
    _, progressive = cv2.imencode(".jpg", FRAMES["front"], (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    _, png = cv2.imencode(".png", FRAMES["front"])
    for data in (progressive.tobytes(), png.tobytes(), b"", b"\xff\xd8", b"\xff" * 4000, b"\xff\xd8\xff\xd9"):
        refuse(changed(data), "no baseline JPEG")


def test_a_marker_that_decoders_skip_cannot_hide_a_second_size() -> None:
    data = compressed().data
    at = start_of_frame(data)
    huge = data[at : at + 5] + b"\xff\xff\xff\xff" + data[at + 9 : at + 19]
    for skipped in (b"\xff\xd0", b"\xff\x01", b"\xff\xff"):
        hidden = skipped + huge + b"\xff\xe0" + bytes(0xFFC0)
        refuse(changed(data[:2] + hidden + data[2:]), "no baseline JPEG")
    twice = changed(data[:at] + data[at : at + 19] + huge + data[at + 19 :])
    refuse(twice, "a JPEG that cannot be decoded")


def test_an_orientation_in_a_jpeg_does_not_turn_the_frame() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = compressed().data
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + data[2:]
    decoded = jpeg.decode_jpeg(FRONT, changed(turned))
    np.testing.assert_array_equal(decoded, jpeg.decode_jpeg(FRONT, compressed()))


@given(at=st.integers(0, 4000), damage=st.binary(min_size=1, max_size=8))
def test_a_damaged_jpeg_is_refused_or_read_at_its_size_and_nothing_else(at: int, damage: bytes) -> None:
    data = compressed().data
    try:
        frame = jpeg.decode_jpeg(FRONT, changed(data[:at] + damage + data[at + len(damage) :]))
    except ProtocolError as error:
        assert "'front'" in str(error)
    else:
        assert frame.shape == (96, 128, 3) and frame.dtype == np.uint8


def test_cameras_too_large_for_a_message_are_not_decoded_from_a_small_one() -> None:
    sky = [Camera("sky", 8000, 8000, 45.0)]
    with pytest.raises(EmbodiedError, match="frames of 192000000 bytes"):
        FrameCodec.offer(sky, "jpeg")
    with pytest.raises(ProtocolError, match="frames of 192000000 bytes"):
        FrameCodec.accept(pb.FrameOffer(encodings=[JPEG]), sky)
    with pytest.raises(EmbodiedError, match="at most 65500 pixels a side"):
        FrameCodec.offer([Camera("line", 1, 70_000, 45.0)], "jpeg")
    with pytest.raises(ProtocolError, match="quality of 101"):
        FrameCodec.accept(pb.FrameOffer(encodings=[JPEG], jpeg_quality=101), CAMERAS)

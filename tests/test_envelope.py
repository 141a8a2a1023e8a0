"""The envelope: frames beside a message are plain protobuf, cross without a copy, and are checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.bridge.arrays import decode_array, encode_array
from embodied.bridge.envelope import FRAMES, pack, unpack
from embodied.errors import ProtocolError
from embodied.types import Frame
from embodied.v1 import policy_pb2, robot_pb2
from embodied.v1 import types_pb2 as pb

RANDOM = np.random.default_rng(0)
ENVELOPE = robot_pb2.ControlReply(observation=pb.Observation(time_ns=7, instruction="reach"))
FRAMES_OF_TWO: dict[str, Frame] = {
    "front": RANDOM.integers(0, 256, (5, 7, 3), np.uint8),
    "wrist β": RANDOM.integers(0, 256, (224, 224, 3), np.uint8),
}


def raw_frame(name: str, frame: np.ndarray) -> pb.Frame:
    return pb.Frame(camera=name, raw=encode_array(frame))


@pytest.mark.parametrize("envelope", [robot_pb2.ControlReply, policy_pb2.ActRequest])
def test_every_envelope_keeps_its_frames_in_the_same_field(envelope: type) -> None:
    assert envelope.DESCRIPTOR.fields_by_name["frames"].number == FRAMES


def test_protobuf_itself_reads_what_pack_writes() -> None:
    message = robot_pb2.ControlReply.FromString(pack(ENVELOPE, FRAMES_OF_TWO))
    assert message.observation == ENVELOPE.observation
    assert [frame.camera for frame in message.frames] == list(FRAMES_OF_TWO)
    for frame in message.frames:
        np.testing.assert_array_equal(decode_array(frame.raw), FRAMES_OF_TWO[frame.camera], strict=True)


def test_unpack_reads_what_protobuf_itself_writes() -> None:
    message = robot_pb2.ControlReply(frames=[raw_frame(*item) for item in FRAMES_OF_TWO.items()])
    message.MergeFrom(ENVELOPE)
    back, frames = unpack(robot_pb2.ControlReply, message.SerializeToString())
    assert back == ENVELOPE and list(frames) == list(FRAMES_OF_TWO)
    for name, frame in frames.items():
        np.testing.assert_array_equal(frame, FRAMES_OF_TWO[name], strict=True)


def test_a_view_that_is_not_contiguous_is_packed_as_it_looks() -> None:
    flipped = FRAMES_OF_TWO["front"][::-1, ::-1]
    _, frames = unpack(robot_pb2.ControlReply, pack(ENVELOPE, {"front": flipped}))
    np.testing.assert_array_equal(frames["front"], flipped)


def test_unpacked_frames_are_views_of_the_received_bytes() -> None:
    data = pack(ENVELOPE, FRAMES_OF_TWO)
    _, frames = unpack(robot_pb2.ControlReply, data)
    for frame in frames.values():
        assert np.shares_memory(frame, np.frombuffer(data, np.uint8)) and not frame.flags.writeable


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_what_is_no_frame_is_refused_on_both_ends(frame: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="'front' must be uint8"):
        pack(ENVELOPE, {"front": frame})
    message = robot_pb2.ControlReply(frames=[raw_frame("front", frame)])
    with pytest.raises(ProtocolError, match="'front' must be uint8"):
        unpack(robot_pb2.ControlReply, message.SerializeToString())


def test_a_frame_without_content_or_twice_is_refused() -> None:
    with pytest.raises(ProtocolError, match="'front' has no content"):
        unpack(robot_pb2.ControlReply, robot_pb2.ControlReply(frames=[pb.Frame(camera="front")]).SerializeToString())
    twice = [raw_frame("front", FRAMES_OF_TWO["front"])] * 2
    with pytest.raises(ProtocolError, match="two frames of one camera"):
        unpack(robot_pb2.ControlReply, robot_pb2.ControlReply(frames=twice).SerializeToString())


def test_a_flood_of_fields_is_refused() -> None:
    with pytest.raises(ProtocolError, match="more than 256 fields"):
        unpack(robot_pb2.ControlReply, b"\x08\x00" * 100_000)


@given(st.integers(0, 400), st.binary(max_size=4), st.booleans())
def test_damaged_bytes_are_refused_or_read_and_nothing_else(at: int, damage: bytes, cut: bool) -> None:
    data = pack(ENVELOPE, {"front": FRAMES_OF_TWO["front"]})
    damaged = data[:at] + damage + (b"" if cut else data[at + len(damage) :])
    try:
        _, frames = unpack(robot_pb2.ControlReply, damaged)
    except ProtocolError:
        return
    assert all(frame.dtype == np.uint8 and frame.ndim == 3 for frame in frames.values())


@given(st.binary(max_size=64))
def test_random_bytes_are_refused_or_read_and_nothing_else(data: bytes) -> None:
    try:
        unpack(policy_pb2.ActRequest, data)
    except ProtocolError as error:
        assert str(error)

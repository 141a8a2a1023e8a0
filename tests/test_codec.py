"""The codec: what goes in comes out to the last bit, and what is malformed is refused with a reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from embodied.bridge.arrays import decode_array, decode_vector, encode_array
from embodied.bridge.codec import decode_actions, decode_spec, decode_step, encode_actions, encode_spec, encode_step
from embodied.errors import InvalidActionError, ProtocolError
from embodied.types import Fault, PoseAction, SkillCall, TextAction
from embodied.v1 import types_pb2 as pb
from tests.dummy_robot import DummyRobot

DTYPES = ["u1", "<i4", "<i8", "<f4", "<f8", "?", ">f4", ">i8"]


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0))))
def test_an_array_survives_the_wire(array: np.ndarray) -> None:
    back = decode_array(pb.Array.FromString(encode_array(array).SerializeToString()))
    assert back.dtype == array.dtype.newbyteorder("<") and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_an_array_that_is_not_contiguous_survives_the_wire() -> None:
    array = np.arange(24, dtype=np.int32).reshape(4, 6)[::-2, 1::2]
    np.testing.assert_array_equal(decode_array(encode_array(array)), array)


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([object()]), np.zeros(2, complex), np.zeros(2, np.float16)]
)
def test_a_dtype_that_is_not_on_the_list_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="cannot be sent; the wire has"):
        encode_array(array)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (pb.Array(data=b"1234"), "dtype code 0"),
        (pb.Array(dtype=99, data=b"1234"), "dtype code 99"),  # type: ignore[arg-type]
        (pb.Array(dtype=pb.DTYPE_FLOAT32, shape=[2], data=b"1234"), "came with 4 bytes"),
        (pb.Array(dtype=pb.DTYPE_FLOAT32, shape=[1], data=b"12345"), "came with 5 bytes"),
        (pb.Array(dtype=pb.DTYPE_UINT8, shape=[2**32 - 1] * 8), "came with 0 bytes"),
        (pb.Array(dtype=pb.DTYPE_UINT8, shape=[1] * 9, data=b"1"), "9 dimensions"),
    ],
)
def test_an_array_whose_parts_disagree_is_refused(message: pb.Array, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode_array(message)


@pytest.mark.parametrize("array", [np.zeros(2), np.zeros((1, 2), np.float32)])
def test_a_state_that_is_no_float32_vector_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="state must be float32"):
        decode_vector(encode_array(array), "state")


def test_a_spec_survives_the_wire_with_every_field() -> None:
    spec = DummyRobot().spec
    odd = dataclasses.replace(
        spec,
        control_hz=1 / 3,
        watchdog_s=0.1,
        version="2β",
        tiers=("easy", "very_hard"),
        action=tuple(dataclasses.replace(f, mode="delta") for f in spec.action),
    )
    for each in (spec, odd):
        back = decode_spec(pb.RobotSpec.FromString(encode_spec(each).SerializeToString()))
        assert back == each and each.differences(back) == []


def test_the_wire_has_every_field_of_a_spec() -> None:
    spec = DummyRobot().spec
    for message, value in ((pb.RobotSpec, spec), (pb.Camera, spec.cameras[0]), (pb.Field, spec.state[0])):
        assert set(message.DESCRIPTOR.fields_by_name) == {f.name for f in dataclasses.fields(value)}


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (pb.Field(name="pan", low=0, high=1), "mode code 0"),
        (pb.Field(name="pan", low=1, high=0, mode=pb.Field.MODE_DELTA), "finite low < high"),
        (pb.Field(name="pan", low=0, high=float("nan"), mode=pb.Field.MODE_DELTA), "finite low < high"),
    ],
)
def test_a_spec_with_a_field_that_is_none_is_refused(field: pb.Field, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode_spec(pb.RobotSpec(state=[field]))


def test_poses_of_one_length_cross_as_one_array() -> None:
    poses = [PoseAction(np.array([i, np.nan, -np.inf], np.float32)) for i in range(16)]
    message = encode_actions(poses)
    assert list(message.poses.shape) == [16, 3] and not message.mixed
    for back, pose in zip(decode_actions(message), poses, strict=True):
        assert isinstance(back, PoseAction)
        np.testing.assert_array_equal(back.values, pose.values, strict=True)


def test_a_mixed_chunk_keeps_its_order_and_shapes() -> None:
    odd = PoseAction(np.zeros((2, 2), np.float32))
    chunk = [
        TextAction("move up"),
        odd,
        SkillCall("home", {"x": 1.5, "of": "cube"}),
        PoseAction(np.zeros(0, np.float32)),
    ]
    text, pose, skill, empty = decode_actions(encode_actions(chunk))
    assert (text, skill) == (chunk[0], chunk[2])
    assert isinstance(pose, PoseAction) and pose.values.shape == (2, 2)
    assert isinstance(empty, PoseAction) and empty.values.shape == (0,)
    assert decode_actions(encode_actions([])) == ()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (pb.Actions(mixed=[pb.Action()]), "no content"),
        (pb.Actions(mixed=[pb.Action(text="a")], poses=encode_array(np.zeros((1, 3)))), "not both"),
        (pb.Actions(poses=encode_array(np.zeros(3))), r"must be \(k, n\)"),
        (pb.Actions(poses=encode_array(np.zeros((0, 3)))), r"must be \(k, n\)"),
        (pb.Actions(poses=encode_array(np.zeros((1025, 1), np.uint8))), "at most 1024"),
        (pb.Actions(mixed=[pb.Action(text="a")] * 1025), "at most 1024"),
        (pb.Actions(poses=pb.Array(dtype=pb.DTYPE_FLOAT32, shape=[1, 6], data=b"?")), "came with 1 bytes"),
        (pb.Actions(mixed=[pb.Action(skill={"name": "home", "arguments": {"x": {}}})]), r"\['x'\] have no value"),
    ],
)
def test_a_malformed_chunk_is_refused(message: pb.Actions, reason: str) -> None:
    with pytest.raises(InvalidActionError, match=reason):
        decode_actions(message)


def test_what_a_body_says_of_itself_survives_the_wire() -> None:
    robot = DummyRobot()
    robot.reset(0, "wait")
    faults = (Fault("wrist", "camera_lost", "unplugged 0.4 s ago"), Fault("bus", "bus", "3 cycles lost"))
    step = dataclasses.replace(robot.step(TextAction("move up")), faults=faults, health={"bus.retries": 3.0})
    back = decode_step(pb.Step.FromString(encode_step(step).SerializeToString()), {})
    assert back.faults == faults and back.health == {"bus.retries": 3.0}

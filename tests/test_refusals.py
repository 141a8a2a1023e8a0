"""Errors on the wire: the same type and the same words on the other side."""

from __future__ import annotations

import pytest

from embodied import errors
from embodied.bridge.refusals import decode_error, encode_error
from embodied.v1 import types_pb2 as pb


class CameraUnpluggedError(errors.ProtocolError):
    """A robot module's own error."""


EVERY_KIND = [
    errors.EmbodiedError("no"),
    errors.UnknownNameError("camera", "wrist", "so101", ["front", "gripper"]),
    errors.SpecMismatchError("the checkpoint", "robot 'so101'", ["control_hz: expected 10, found 20"]),
    errors.InvalidObservationError("state field 'pan' is nan"),
    errors.InvalidActionError("wrong length"),
    errors.InvalidInstructionError("empty"),
    errors.ProtocolError("step before reset"),
    errors.EmergencyStopError("pressed by anna"),
    errors.LateError("came 0.3 s after its deadline"),
]


def test_every_kind_of_error_is_tried_here() -> None:
    kinds = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EmbodiedError)
    }
    assert {type(error) for error in EVERY_KIND} == kinds - {errors.HardwareError, errors.LostError}  # without a code


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: type(error).__name__)
def test_an_error_keeps_its_type_and_words(error: errors.EmbodiedError) -> None:
    back = decode_error(pb.Error.FromString(encode_error(error).SerializeToString()))
    assert type(back) is type(error) and str(back) == str(error)


def test_an_error_of_a_modules_own_comes_back_as_its_nearest_kin() -> None:
    back = decode_error(encode_error(CameraUnpluggedError("front is unplugged")))
    assert type(back) is errors.ProtocolError and str(back) == "front is unplugged"
    back = decode_error(encode_error(errors.HardwareError("servo 3 does not answer")))
    assert type(back) is errors.EmbodiedError and str(back) == "servo 3 does not answer"


def test_a_fault_is_told_in_one_line_without_a_traceback() -> None:
    message = encode_error(ZeroDivisionError("division by zero"))
    assert message.code == pb.ERROR_CODE_INTERNAL
    assert message.message == "the far side failed with ZeroDivisionError: division by zero"


def test_a_code_of_a_later_version_is_still_an_error_with_its_words() -> None:
    back = decode_error(pb.Error(code=77, message="lease expired"))  # type: ignore[arg-type]
    assert isinstance(back, errors.ProtocolError) and "77: lease expired" in str(back)


def test_an_error_that_is_no_text_is_told_all_the_same() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    for error in (OSError("no /dev/tty\udcff"), MuteError()):
        assert encode_error(error).SerializeToString()

"""Errors on the wire: a user's mistake comes back as the type it was raised as, anything else as one line."""

from __future__ import annotations

from embodied.errors import (
    EmbodiedError,
    EmergencyStopError,
    InvalidActionError,
    InvalidInstructionError,
    InvalidObservationError,
    LateError,
    ProtocolError,
    SpecMismatchError,
    UnknownNameError,
)
from embodied.v1 import types_pb2 as pb

_TYPES: dict[pb.ErrorCode, type[EmbodiedError]] = {
    pb.ERROR_CODE_UNKNOWN_NAME: UnknownNameError,
    pb.ERROR_CODE_SPEC_MISMATCH: SpecMismatchError,
    pb.ERROR_CODE_INVALID_OBSERVATION: InvalidObservationError,
    pb.ERROR_CODE_INVALID_ACTION: InvalidActionError,
    pb.ERROR_CODE_INVALID_INSTRUCTION: InvalidInstructionError,
    pb.ERROR_CODE_PROTOCOL: ProtocolError,
    pb.ERROR_CODE_REFUSED: EmbodiedError,
    pb.ERROR_CODE_INTERNAL: ProtocolError,
    pb.ERROR_CODE_STOPPED: EmergencyStopError,
    pb.ERROR_CODE_LATE: LateError,
}
_CODES = {kind: code for code, kind in _TYPES.items() if code != pb.ERROR_CODE_INTERNAL}


def encode_error(error: BaseException) -> pb.Error:
    """Return the message of an error: its code and what it says, never a traceback."""
    try:
        words = str(error).encode(errors="replace").decode()  # a path may hold bytes that are no text
    except Exception:  # somebody else's error, which cannot even say what it is
        words = "it does not say why"
    for kind in type(error).__mro__:
        if kind in _CODES:
            return pb.Error(code=_CODES[kind], message=words)
    return pb.Error(code=pb.ERROR_CODE_INTERNAL, message=f"the far side failed with {type(error).__name__}: {words}")


def decode_error(message: pb.Error) -> EmbodiedError:
    """Return the error that encode_error was given, saying the same."""
    kind = _TYPES.get(message.code)
    if kind is None:
        return ProtocolError(f"an error of unknown code {message.code}: {message.message}")
    # __new__ alone: some errors compose their message from arguments that do not cross the wire.
    return kind.__new__(kind, message.message)


def without_traceback(error: Exception) -> Exception:
    """Return the error fit to wait for its turn to be told: a traceback would keep the request, and all its frames."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)

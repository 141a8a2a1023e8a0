"""The errors a user can cause: each names the offender and lists the choices."""

from collections.abc import Iterable


class EmbodiedError(Exception):
    """A mistake the user can mend; the command line prints it without a traceback and exits with status 2."""


class UnknownNameError(EmbodiedError):
    """A name that is none of the valid ones."""

    def __init__(self, kind: str, name: str, owner: str, choices: Iterable[str]) -> None:
        super().__init__(f"no {kind} {name!r}; {owner} has {sorted(choices)}")


class SpecMismatchError(EmbodiedError):
    """Two robot specs differ; the message lists every difference."""

    def __init__(self, expected: str, found: str, differences: Iterable[str]) -> None:
        lines = "".join(f"\n  - {line}" for line in differences)
        super().__init__(f"{found} is not the robot that {expected} was made for:{lines}")


class InvalidObservationError(EmbodiedError):
    """An observation that does not fit its spec: wrong shape, wrong dtype, non-finite."""


class InvalidActionError(EmbodiedError):
    """An action that does not fit its spec: wrong length, unknown verb."""


class InvalidInstructionError(EmbodiedError):
    """An instruction that is empty, too long, or not text the policy can read."""


class ProtocolError(EmbodiedError):
    """The far side broke the wire's contract, or could not be reached."""


class LostError(ProtocolError):
    """The far side of a session went away, fell silent, or ended it; only a new session can go on."""


class HardwareError(EmbodiedError):
    """A part of a real robot that is missing, misconfigured or broken: a port, a servo, a camera, a calibration."""


class EmergencyStopError(EmbodiedError):
    """The robot's emergency stop is latched: nothing moves until it is released."""


class LateError(EmbodiedError):
    """An answer that could not be given before its deadline; the request had no effect."""

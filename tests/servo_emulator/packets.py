"""What passes between the wire and a vendor's protocol: requests found in a stream of bytes, and replies to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.servo_emulator.servo import Servo


@dataclass(frozen=True)
class Request:
    """One instruction packet, checked."""

    id: int
    instruction: int
    parameters: bytes
    raw: bytes


@dataclass(frozen=True)
class Reply:
    """One status packet, and how long its servo waits before it sends it."""

    servo: Servo
    delay_s: float
    raw: bytes


class Dialect(Protocol):
    """A vendor's protocol, as its servos read and speak it."""

    def split(self, buffer: bytearray) -> tuple[Request | None, int, bool]:
        """Return the first request of the buffer, the bytes used up, and whether they held a broken packet.

        No request and no bytes used: more must come first.
        """

    def answer(self, request: Request, servos: Sequence[Servo]) -> Iterable[list[Reply]]:
        """Carry out the request on the servos that hear it; return the replies, those of one slot at the same time.

        A slot is made when it is asked for, so that making the later ones delays no reply.
        """

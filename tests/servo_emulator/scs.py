"""Feetech's protocol, FF FF ID LENGTH INSTRUCTION ... CHECKSUM, read from its SCS communication protocol manual."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.servo_emulator.feetech import Sts3215
from tests.servo_emulator.packets import Reply, Request
from tests.servo_emulator.servo import Servo

BROADCAST = 0xFE
PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83


class ScsProtocol:
    """The protocol as STS servos speak it; the checksum is the inverted sum from ID on."""

    def split(self, buffer: bytearray) -> tuple[Request | None, int, bool]:
        """Find the first request."""
        start = buffer.find(b"\xff\xff")
        if start < 0:
            return None, max(0, len(buffer) - 1), False
        while buffer[start + 2 : start + 3] == b"\xff":  # a longer run of FF: the header is its end
            start += 1
        if len(buffer) < start + 4:
            return None, start, False
        length = buffer[start + 3]
        end = start + 4 + length
        if length < 2:
            return None, start + 2, True
        if len(buffer) < end:
            return None, start, False
        raw = bytes(buffer[start:end])
        if checksum(raw[2:-1]) != raw[-1]:
            return None, end, True
        return Request(raw[2], raw[4], raw[5:-1], raw), end, False

    def answer(self, request: Request, servos: Sequence[Servo]) -> Iterable[list[Reply]]:
        """Carry out a request."""
        heard = [servo for servo in servos if isinstance(servo, Sts3215)]
        if request.instruction == SYNC_READ and len(request.parameters) > 2:
            return self._sync_read(request.parameters, heard)
        if request.instruction == SYNC_WRITE:
            self._sync_write(request.parameters, heard)
            return []
        meant = [servo for servo in heard if request.id in (servo.id, BROADCAST)]
        slot = [reply for servo in meant if (reply := self._one(request, servo)) is not None]
        return [slot] if slot else []

    def _one(self, request: Request, servo: Sts3215) -> Reply | None:
        id_, wordy = servo.id, servo.memory.get("status_level") == 1 and request.id != BROADCAST
        parameters = request.parameters
        if request.instruction == PING:
            return self._status(servo, id_, b"")
        if request.instruction == READ and len(parameters) == 2 and request.id != BROADCAST:
            return self._status(servo, id_, servo.read(parameters[0], parameters[1]))
        if request.instruction == WRITE and len(parameters) >= 2:
            servo.write(parameters[0], parameters[1:])
        elif request.instruction == REG_WRITE and len(parameters) >= 2:
            servo.defer(parameters[0], parameters[1:])
        elif request.instruction == ACTION:
            servo.act()
        else:
            return None
        return self._status(servo, id_, b"") if wordy else None

    def _sync_read(self, parameters: bytes, heard: list[Sts3215]) -> Iterable[list[Reply]]:
        address, length, ids = parameters[0], parameters[1], parameters[2:]
        for id_ in ids:
            yield [self._status(servo, id_, servo.read(address, length)) for servo in heard if servo.id == id_]

    def _sync_write(self, parameters: bytes, heard: list[Sts3215]) -> None:
        if len(parameters) < 3:
            return
        address, length = parameters[0], parameters[1]
        for at in range(2, len(parameters) - length, length + 1):
            for servo in heard:
                if servo.id == parameters[at]:
                    servo.write(address, parameters[at + 1 : at + 1 + length])

    def _status(self, servo: Sts3215, id_: int, data: bytes) -> Reply:
        body = bytes([id_, len(data) + 2, servo.status]) + data
        return Reply(servo, servo.delay_s, b"\xff\xff" + body + bytes([checksum(body)]))


def checksum(body: bytes) -> int:
    """Return the check byte of a packet's bytes from the id on."""
    return ~sum(body) & 0xFF

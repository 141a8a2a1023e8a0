"""Dynamixel protocol 2.0: FF FF FD 00 ID LENGTH16 INSTRUCTION ... CRC16, stuffed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from tests.servo_emulator.dynamixel import INSTRUCTION_ERROR, DynamixelX
from tests.servo_emulator.packets import Reply, Request
from tests.servo_emulator.servo import Servo

HEADER = b"\xff\xff\xfd\x00"
STUFFABLE, STUFFED = b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"
BROADCAST, STATUS = 0xFE, 0x55
PING, READ, WRITE, REG_WRITE, ACTION, REBOOT = 1, 2, 3, 4, 5, 8
SYNC_READ, SYNC_WRITE, BULK_READ, BULK_WRITE = 0x82, 0x83, 0x92, 0x93
MOST_BYTES = 1024


class Protocol2:
    """Protocol 2.0 as X servos speak it."""

    def split(self, buffer: bytearray) -> tuple[Request | None, int, bool]:
        """Find the first request."""
        start = buffer.find(HEADER)
        if start < 0:
            return None, max(0, len(buffer) - len(HEADER) + 1), False
        if len(buffer) < start + 7:
            return None, start, False
        length = int.from_bytes(buffer[start + 5 : start + 7], "little")
        end = start + 7 + length
        if not 3 <= length <= MOST_BYTES:
            return None, start + 3, True
        if len(buffer) < end:
            return None, start, False
        raw = bytes(buffer[start:end])
        if crc16(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
            return None, end, True
        body = raw[7:-2].replace(STUFFED, STUFFABLE)
        return Request(raw[4], body[0], body[1:], raw), end, False

    def answer(self, request: Request, servos: Sequence[Servo]) -> Iterable[list[Reply]]:
        """Carry out a request."""
        heard = [servo for servo in servos if isinstance(servo, DynamixelX)]
        now, parameters = time.monotonic(), request.parameters
        for servo in heard:  # "the communication is defined as all the Instruction Packet"
            servo.heard = now
        if request.instruction in (SYNC_READ, BULK_READ):
            asked = _sync_reads(parameters) if request.instruction == SYNC_READ else _bulk_reads(parameters)
            return ([_read(servo, at, n) for servo in heard if servo.id == id_] for id_, at, n in asked)
        if request.instruction in (SYNC_WRITE, BULK_WRITE):
            writes = _sync_writes(parameters) if request.instruction == SYNC_WRITE else _bulk_writes(parameters)
            for id_, at, data in writes:
                for servo in heard:
                    if servo.id == id_:
                        servo.write(at, data)
            return []
        if request.id == BROADCAST and request.instruction == PING:
            ids = sorted({servo.id for servo in heard})
            return [[_ping(servo) for servo in heard if servo.id == id_] for id_ in ids]
        meant = [servo for servo in heard if request.id in (servo.id, BROADCAST)]
        slot = [reply for servo in meant if (reply := _one(request, servo)) is not None]
        return [slot] if slot else []


def _one(request: Request, servo: DynamixelX) -> Reply | None:
    parameters, level = request.parameters, servo.memory.get("status_return_level")
    address, data = int.from_bytes(parameters[:2], "little"), parameters[2:]
    id_ = servo.id
    if request.instruction == PING:
        return _ping(servo)
    if request.instruction == READ:
        length = int.from_bytes(data[:2], "little")
        return _read(servo, address, length) if level >= 1 and request.id != BROADCAST else None
    actions: dict[int, Callable[[], int]] = {
        WRITE: lambda: servo.write(address, data),
        REG_WRITE: lambda: servo.defer(address, data),
        ACTION: servo.act,
        REBOOT: servo.reboot,
    }
    error = actions.get(request.instruction, lambda: INSTRUCTION_ERROR)()
    return _status(servo, id_, error, b"") if level == 2 and request.id != BROADCAST else None


def _ping(servo: DynamixelX) -> Reply:
    get = servo.memory.get
    return _status(servo, servo.id, 0, get("model_number").to_bytes(2, "little") + bytes([get("firmware")]))


def _read(servo: DynamixelX, address: int, length: int) -> Reply:
    error, data = servo.read(address, length)
    return _status(servo, servo.id, error, data)


def _status(servo: DynamixelX, id_: int, error: int, data: bytes) -> Reply:
    body = (bytes([STATUS, error | servo.error]) + data).replace(STUFFABLE, STUFFED)
    packet = HEADER + bytes([id_]) + (len(body) + 2).to_bytes(2, "little") + body
    return Reply(servo, servo.delay_s, packet + crc16(packet).to_bytes(2, "little"))


def _sync_reads(parameters: bytes) -> Iterable[tuple[int, int, int]]:
    address, length = int.from_bytes(parameters[:2], "little"), int.from_bytes(parameters[2:4], "little")
    return [(id_, address, length) for id_ in parameters[4:]]


def _bulk_reads(parameters: bytes) -> Iterable[tuple[int, int, int]]:
    for at in range(0, len(parameters) - 4, 5):
        yield (
            parameters[at],
            int.from_bytes(parameters[at + 1 : at + 3], "little"),
            int.from_bytes(parameters[at + 3 : at + 5], "little"),
        )


def _sync_writes(parameters: bytes) -> Iterable[tuple[int, int, bytes]]:
    address, length = int.from_bytes(parameters[:2], "little"), int.from_bytes(parameters[2:4], "little")
    for at in range(4, len(parameters) - length, length + 1):
        yield parameters[at], address, parameters[at + 1 : at + 1 + length]


def _bulk_writes(parameters: bytes) -> Iterable[tuple[int, int, bytes]]:
    at = 0
    while at + 5 <= len(parameters):
        length = int.from_bytes(parameters[at + 3 : at + 5], "little")
        yield (
            parameters[at],
            int.from_bytes(parameters[at + 1 : at + 3], "little"),
            parameters[at + 5 : at + 5 + length],
        )
        at += 5 + length


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """Return the check word of a packet up to its end: polynomial 0x8005, from 0, highest bit first."""
    value = 0
    for byte in data:
        value = (value << 8 ^ _CRC[value >> 8 ^ byte]) & 0xFFFF
    return value

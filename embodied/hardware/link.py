"""Questions and answers on a half-duplex bus, through a vendor's unmodified SDK: none unchecked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from embodied.hardware.port import PortError
from embodied.hardware.vendor import Register, Status, Vendor, from_little, sync_bytes

TRIES = 4  # of one register
READ = 2  # the instruction of protocol 1
Take = Callable[[Status], None]


@dataclass
class BusStatistics:
    """What became of the readings so far."""

    cycles: int = 0
    retries: int = 0  # questions put again, within a tick
    corrupt: int = 0  # answers whose checksum, length or servo was wrong
    timeouts: int = 0  # questions that not all servos answered
    implausible: int = 0  # positions that no joint reaches so soon
    lost: int = 0  # readings given up


class Link:
    """One port, one SDK; not thread-safe."""

    def __init__(self, vendor: Vendor, port: str, baud: int) -> None:
        """Open the port; raise PortError where it does not open."""
        self.vendor, self.name = vendor, port
        self.statistics = BusStatistics()
        self.sdk = vendor.sdk
        self.handler = vendor.sdk.PacketHandler(vendor.protocol)
        self.port = vendor.port(port)
        self._groups: dict[tuple[int, ...], Any] = {}
        self._require(baud)
        self.port.baudrate = baud
        self.port.setupPort(baud)

    @property
    def baud(self) -> int:
        """Return the baud rate that the port has."""
        return int(self.port.baudrate)

    @baud.setter
    def baud(self, baud: int) -> None:
        self._require(baud)
        if not self.port.setBaudRate(baud):
            raise PortError(f"{self.vendor.name}'s SDK takes no {baud} baud")

    @contextmanager
    def patience(self, answer_ms: float) -> Iterator[None]:
        """Wait so long for answers meanwhile, beyond their time on the wire."""
        before, self.port.answer_ms = self.port.answer_ms, answer_ms
        try:
            yield
        finally:
            self.port.answer_ms = before

    def wire_ms(self, servos: int) -> float:
        """Return how long a sync read of so many servos is on the wire."""
        return float(self.port.tx_time_per_byte) * sync_bytes(self.vendor, servos, read=self.vendor.block_size)

    def sync_read(self, ids: tuple[int, ...], take: Take) -> None:
        """Ask the servos of ids for the vendor's block, and hand over each good answer as it comes."""
        size = self.vendor.block_size
        if ids not in self._groups:
            group = self.sdk.GroupSyncRead(self.port, self.handler, self.vendor.block_at, size)
            for servo in ids:
                group.addParam(servo)
            self._groups[ids] = group
        if self._groups[ids].txPacket() == self.sdk.COMM_SUCCESS:
            self._receive(ids, size, take)

    def sync_write(self, register: Register, data: list[int]) -> bool:
        """Write a register of several servos, data being each one's id and bytes; return whether it went out."""
        result = self.handler.syncWriteTxOnly(self.port, register.address, register.size, data, len(data))
        return bool(result == self.sdk.COMM_SUCCESS)

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """Keep what is written meanwhile until the next packet goes out."""
        self.port.holds_back = True
        try:
            yield
        finally:
            self.port.holds_back = False

    def ask(self, id: int, register: str, tries: int = TRIES) -> int | None:
        """Return a register's value, None where the servo does not answer."""
        its = self.vendor.register(register)
        answer = self.ask_bytes(id, its.address, its.size, tries)
        return None if answer is None else its.decode(from_little(answer.data))

    def ask_block(self, id: int) -> Status | None:
        """Return one servo's answer to a question for the vendor's block."""
        return self.ask_bytes(id, self.vendor.block_at, self.vendor.block_size)

    def ask_bytes(self, id: int, address: int, size: int, tries: int = TRIES) -> Status | None:
        """Return one servo's answer to a question for size bytes of its table."""
        answers: list[Status] = []
        # An adapter may echo a question, which in protocol 1 is built as an answer is: to a READ of two bytes, itself.
        echo = bytes((address & 0xFF, size)) if self.vendor.protocol < 2 else b""
        for _ in range(tries):
            if self.handler.readTx(self.port, id, address, size) == self.sdk.COMM_SUCCESS:
                self._receive((id,), size, answers.append, echo)
            if answers:
                return answers[0]
        return None

    def another_answers(self, id: int) -> bool:
        """Ask for the block once more and say whether a second answer follows the first."""
        size = self.vendor.block_size
        if self.ask_bytes(id, self.vendor.block_at, size, tries=1) is None:
            return False
        self.port.setPacketTimeout(size)
        second, _ = self.vendor.status(self.handler, self.port)
        return second is not None and second.id == id and len(second.data) == size

    def write(self, id: int, register: Register, raw: int) -> None:
        """Write raw bits; reading them back is what tells whether it went well."""
        write = getattr(self.handler, f"write{register.size}ByteTxRx")
        write(self.port, id, register.address, raw)

    def close(self) -> None:
        """Let go of the port; idempotent."""
        self.port.closePort()

    def _receive(self, ids: tuple[int, ...], size: int, take: Take, echo: bytes = b"") -> None:
        """Hand over answers until those of ids are there, the last of them has spoken, or none comes in time.

        The SDKs' own loop over a sync read gives up at the first that fails, the good ones behind it too, and takes
        answers of any length.
        """
        waiting = set(ids)
        while waiting:
            status, result = self.vendor.status(self.handler, self.port)
            if status is None:
                if result != self.sdk.COMM_RX_CORRUPT:
                    self.statistics.timeouts += 1
                    return
                self.statistics.corrupt += 1
            elif echo and status.error == READ and status.data == echo:
                continue
            elif status.id not in waiting or len(status.data) != size:
                self.statistics.corrupt += 1
            else:
                take(status)
                waiting.discard(status.id)
                if status.id == ids[-1]:
                    return  # they speak in turn: who has not will not

    def _require(self, baud: int) -> None:
        if baud not in self.vendor.bauds:
            raise PortError(f"{self.vendor.name} servos know no {baud} baud; they have {sorted(self.vendor.bauds)}")

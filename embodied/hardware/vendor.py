"""What a servo bus needs to know of a vendor: registers, models, baud rates, and how its SDK's packets are laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

from embodied.errors import UnknownNameError


@dataclass(frozen=True)
class Register:
    """A number in a servo's table."""

    address: int
    size: int  # bytes, little-endian
    sign_bit: int | None = None  # sign and magnitude, the sign in this bit
    signed: bool = False  # two's complement
    eeprom: bool = False  # keeps its value without power

    def decode(self, raw: int) -> int:
        """Return the number that raw bits, read without a sign, stand for."""
        if self.sign_bit is not None:
            magnitude = raw & ((1 << self.sign_bit) - 1)
            return -magnitude if raw >> self.sign_bit & 1 else magnitude
        if self.signed and raw >> (8 * self.size - 1):
            return raw - (1 << 8 * self.size)
        return raw

    def encode(self, value: int) -> int:
        """Return the raw bits of a number; raise ValueError where they do not suffice."""
        raw = value
        if value < 0:
            raw = -value | 1 << self.sign_bit if self.sign_bit is not None else value + (1 << 8 * self.size)
        if not 0 <= raw < 1 << 8 * self.size or self.decode(raw) != value:
            raise ValueError(f"{value} does not fit the {self.size} bytes at address {self.address}")
        return raw


@dataclass(frozen=True)
class Model:
    """A servo that can be bought."""

    name: str
    load_full: float  # what its load register reads at full effort
    top_counts_s: float  # its speed without load at the highest voltage it takes


class Row(NamedTuple):
    """What one servo senses, in the units of its registers."""

    position: int
    velocity: int
    load: int
    voltage: int
    temperature: int


@dataclass(frozen=True, slots=True)
class Status:
    """A servo's answer, once its checksum is known to be right."""

    id: int
    error: int
    data: bytes


@dataclass(frozen=True)
class Vendor:
    """One make of servos and the SDK that speaks with them."""

    name: str
    sdk: ModuleType
    port: Callable[[str], Any]  # the SDK's PortHandler, made blocking
    protocol: float  # as the SDK's PacketHandler takes it
    registers: Mapping[str, Register]
    models: Mapping[int, Model]
    bauds: Mapping[int, int]  # baud rate to the register's code
    status: Callable[[Any, Any], tuple[Status | None, int]]  # of the SDK's packet handler and port: one answer
    block_at: int  # where all that a reading needs lies,
    block_size: int
    unpack: Callable[[bytes], Row]  # and what it says
    firmware: Callable[[Callable[[str], int]], str]  # from registers by name
    homing_sign: int  # present = actual + homing_sign * homing_offset
    velocity_counts_s: float  # of one unit of the velocity registers
    torque_full: int  # what torque_limit reads where nothing is limited
    alarms: Mapping[int, str]  # bit of the alarms' register to its name
    error_alarms: int  # bits of an answer's error byte: the alarms themselves, or 0x80: that there are some
    strain: float  # share of a servo's full effort that it does not bear for long
    settled: Mapping[str, int]  # what its EEPROM must hold for counts, goals and alarms to mean what they mean here,
    cleared: Mapping[str, int] = field(default_factory=dict)  # and bits that it must not have
    factory_id: int = 1
    counts_a_turn: int = 4096
    volts: float = 0.1  # of one unit of the voltage registers

    @property
    def middle(self) -> int:
        """Return the count that is a joint's zero."""
        return self.counts_a_turn // 2

    @property
    def overhead(self) -> int:
        """Return how many bytes an answer is longer than its data."""
        return 6 if self.protocol < 2 else 11

    def register(self, name: str) -> Register:
        """Return the register of that name; raise UnknownNameError with those there are."""
        if name not in self.registers:
            raise UnknownNameError("register", name, self.name, self.registers)
        return self.registers[name]

    def homing(self, actual: int, wanted: int) -> int:
        """Return the homing offset with which a servo that is at count actual without any reads wanted."""
        return (wanted - actual) * self.homing_sign

    def model(self, number: int) -> str:
        """Return a model's name, or its number where nobody knows it."""
        return self.models[number].name if number in self.models else f"model {number}"

    def baud(self, code: int) -> int:
        """Return the baud rate of a register's code."""
        return next((baud for baud, its in self.bauds.items() if its == code), 0)

    def alarm_names(self, bits: int) -> frozenset[str]:
        """Return the names of the alarms whose bits are set."""
        return frozenset(name for bit, name in self.alarms.items() if bits & bit)


def sync_bytes(vendor: Vendor, servos: int, *, read: int = 0, written: int = 0) -> int:
    """Return how many bytes a sync read of read bytes and a sync write of written bytes, a servo each, put on a bus."""
    head = 8 if vendor.protocol < 2 else 14
    asked = head + servos * (1 + vendor.overhead + read) if read else 0
    return asked + (head + servos * (1 + written) if written else 0)


def little(value: int, size: int) -> list[int]:
    """Return the bytes of a number as the SDKs take them."""
    return list(value.to_bytes(size, "little"))


def from_little(data: Sequence[int]) -> int:
    """Return the number of bytes as the SDKs give them."""
    return int.from_bytes(bytes(data), "little")

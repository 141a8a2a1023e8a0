"""The memory of a servo: named registers over bytes, of which the EEPROM area outlives the power."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Register:
    """One row of a vendor's control table; size in bytes, low byte first."""

    name: str
    address: int
    size: int
    default: int = 0
    writable: bool = True
    low: int | None = None  # what the servo accepts; None: whatever fits the bytes
    high: int | None = None
    sign_bit: int | None = None  # sign and magnitude: the bit that says "negative"
    signed: bool = False  # two's complement

    def encode(self, value: int) -> bytes:
        """Return the register's bytes for a signed value, cut to its size."""
        if self.sign_bit is not None:
            value = (abs(value) & ((1 << self.sign_bit) - 1)) | (int(value < 0) << self.sign_bit)
        return (value & ((1 << (8 * self.size)) - 1)).to_bytes(self.size, "little")

    def decode(self, data: bytes | bytearray) -> int:
        """Return the signed value that the register's bytes stand for."""
        value = int.from_bytes(data, "little", signed=self.signed)
        if self.sign_bit is None:
            return value
        magnitude = value & ((1 << self.sign_bit) - 1)
        return -magnitude if value >> self.sign_bit & 1 else magnitude

    def takes(self, value: int) -> bool:
        """Return whether value is in the range that the servo accepts."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class Table:
    """A vendor's control table."""

    def __init__(self, registers: Iterable[Register], *, size: int, eeprom_end: int) -> None:
        self.by_name = {register.name: register for register in registers}
        self.by_address = {register.address: register for register in self.by_name.values()}
        self.size, self.eeprom_end = size, eeprom_end

    def __getitem__(self, name: str) -> Register:
        return self.by_name[name]

    def within(self, address: int, length: int) -> Iterator[Register]:
        """Yield the registers that lie wholly within length bytes from address."""
        for at in range(address, address + length):
            register = self.by_address.get(at)
            if register is not None and at + register.size <= address + length:
                yield register


class Memory:
    """The bytes of one servo; what is saved is there again after power_on."""

    def __init__(self, table: Table, **factory: int) -> None:
        self.table = table
        self._bytes = bytearray(table.size)
        for register in table.by_name.values():
            self.set(register.name, factory.get(register.name, register.default))
        self._ram = bytes(self._bytes[table.eeprom_end :])
        self._saved = bytearray(self._bytes[: table.eeprom_end])

    def get(self, name: str) -> int:
        """Return a register's signed value."""
        register = self.table.by_name[name]
        return register.decode(self._bytes[register.address : register.address + register.size])

    def set(self, name: str, value: int) -> None:
        """Put a signed value into a register, whether or not the bus may write it."""
        register = self.table[name]
        self._bytes[register.address : register.address + register.size] = register.encode(value)

    def read(self, address: int, length: int) -> bytes:
        """Return length bytes from address; what lies beyond the table reads as zeros."""
        return bytes(self._bytes[address : address + length]).ljust(length, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at an address of the table."""
        self._bytes[address : address + len(data)] = data

    def save(self, register: Register) -> None:
        """Make a register of the EEPROM area, as it is now, outlive the power."""
        span = slice(register.address, register.address + register.size)
        self._saved[span] = self._bytes[span]

    def power_on(self) -> None:
        """Begin again with the saved EEPROM and the RAM's defaults."""
        self._bytes[: self.table.eeprom_end] = self._saved
        self._bytes[self.table.eeprom_end :] = self._ram

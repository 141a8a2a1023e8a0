"""A serial port that waits for bytes instead of spinning, and says what keeps it shut."""

from __future__ import annotations

import errno
import os
import select
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import serial
from serial.tools import list_ports

from embodied.errors import HardwareError
from embodied.holders import holders

READ_AT_ONCE = 4096
# What a servo and a USB adapter may take to answer beyond the time on the wire, ms; the SDKs allow 34.
ANSWER_MS = 5.0


class PortError(HardwareError):
    """A serial port that cannot be opened."""


class PortLostError(PortError):
    """A serial port that was open and has gone: unplugged, or its power lost."""


class BlockingPort:
    """A mixin over an SDK's PortHandler, whose names these are: it sleeps until bytes come, and forgets stale ones.

    The SDKs' own reads return at once and are called again and again for as long as a servo takes to answer: a core's
    whole time. Feetech's clearPort leaves the input as it is, so that the late answer to one question is taken for the
    answer to the next. Both time out by the wall clock, which jumps, after 34 ms, which is longer than a tick.
    """

    port_name: str
    baudrate: int
    is_open: bool
    ser: Any
    packet_start_time: float
    packet_timeout: float
    tx_time_per_byte: float
    answer_ms = ANSWER_MS
    _fd = -1
    holds_back = False  # what is written goes out with the next packet: one transfer of a USB adapter instead of two

    @property
    def is_using(self) -> bool:
        """Return False: one thread alone asks here, and the SDKs' mark outlives a question that is broken off."""
        return False

    @is_using.setter
    def is_using(self, value: bool) -> None:
        """Take no note of it."""

    def setupPort(self, cflag_baud: int) -> bool:  # noqa: N802
        """Open the port for this process alone; raise PortError, with what to do."""
        if self.is_open:
            try:
                self.ser.baudrate = self.baudrate
            except (OSError, ValueError, termios.error) as error:
                raise PortError(_why_shut(self.port_name, self.baudrate, error)) from error
        else:
            self.ser = open_serial(self.port_name, self.baudrate)
            self.is_open = True
        self._fd = self.ser.fileno()
        self._coming, self._going = bytearray(), b""
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._drain = select.poll()
        self._drain.register(self._fd, select.POLLOUT)
        self.tx_time_per_byte = 10 * 1000.0 / self.baudrate  # 8 bits between a start and a stop bit, in ms
        return True

    def closePort(self) -> None:  # noqa: N802
        """Let go of the port; idempotent."""
        if self.is_open:
            self.is_open, self._fd = False, -1  # the next file that is opened may have its number
            with suppress(OSError, termios.error):  # of a port that is gone there is nothing to let go
                self.ser.close()

    def clearPort(self) -> None:  # noqa: N802
        """Forget what has come in: it answers nothing that is yet to be asked."""
        if not self.is_open:
            raise PortLostError(f"port {self.port_name} is closed")
        self._coming.clear()
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (OSError, termios.error) as error:
            raise self._lost(error) from error

    def writePort(self, packet: list[int]) -> int:  # noqa: N802
        """Write a packet; return how many of its bytes went out. One that nobody answers may wait for the next."""
        self._going += bytes(packet)
        if self.holds_back:
            return len(packet)
        going, self._going = self._going, b""
        try:
            return len(packet) - (len(going) - os.write(self._fd, going))
        except BlockingIOError:  # nobody takes what was written before: asked again at once, it would ask all tick long
            self._drain.poll(self.answer_ms)
            return 0
        except OSError as error:
            raise self._lost(error) from error

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Return length bytes, or as many as have come by the packet's deadline."""
        coming = self._coming
        while len(coming) < length:
            left_ms = self.packet_timeout - (self.getCurrentTime() - self.packet_start_time)
            if not self._poll.poll(max(0.0, left_ms)):
                break
            coming += self._read()
        taken = bytes(coming[: max(0, length)])
        del coming[: len(taken)]
        return taken

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        """Begin to wait for packet_length bytes of answer."""
        self.packet_start_time = self.getCurrentTime()
        self.packet_timeout = self.tx_time_per_byte * packet_length + self.answer_ms

    def getCurrentTime(self) -> float:  # noqa: N802
        """Return the monotonic time, ms."""
        return time.monotonic() * 1e3

    def _read(self) -> bytes:
        try:
            found = os.read(self._fd, READ_AT_ONCE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost(error) from error
        if not found:  # it is ready to be read, and at its end: the far side is gone
            raise self._lost(OSError(errno.EIO, os.strerror(errno.EIO)))
        return found

    def _lost(self, error: OSError | termios.error) -> PortLostError:
        return PortLostError(f"port {self.port_name} is gone ({error}): look at its plug and at the arm's power supply")


def open_serial(port: str, baud: int) -> serial.Serial:
    """Open a serial port for this process alone; raise PortError, with what to do, where that cannot be."""
    try:
        opened = serial.Serial(port, baud, timeout=0, exclusive=True)
    except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError
        raise PortError(_why_shut(port, baud, error)) from error
    with suppress(OSError, ValueError, AttributeError, NotImplementedError):  # a pty, or another system
        opened.set_low_latency_mode(True)  # FTDI adapters hold bytes back for 16 ms otherwise
    opened.reset_input_buffer()
    return opened


def ports() -> list[str]:
    """List the serial ports of this machine that a servo adapter can be behind."""
    return sorted(found.device for found in list_ports.comports() if found.vid is not None)


def only_port(named_by: str) -> str:
    """Return the only serial port there is; raise PortError, listing them, where one must be named, and how."""
    found = ports()
    if len(found) != 1:
        raise PortError(f"{_said(found)}; name the arm's with {named_by}")
    return found[0]


def _why_shut(port: str, baud: int, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ENOENT or not os.path.exists(port):
        return f"no port {port}; {_said(ports())}"
    if code == errno.EACCES:
        return f"no permission for port {port}: sudo usermod -aG dialout $USER, then log in again"
    if code in (errno.EAGAIN, errno.EBUSY) or "lock" in str(error):
        held_by = holders(port)
        if any(process.name == str(os.getpid()) for process in held_by):
            return f"port {port} is open in this program already: each arm has a port of its own; {_said(ports())}"
        return f"port {port} is in use by another process{_named(held_by)}: end it, or wait until it is done"
    if code in (errno.ENOTTY, errno.EINVAL, errno.EISDIR) or "configure port" in str(error):
        return f"{port} is no serial port; {_said(ports())}"
    return f"port {port} does not open at {baud} baud: {error}"


def _said(found: list[str]) -> str:
    return f"serial ports here: {', '.join(found)}" if found else "no serial port is here: is the arm plugged in?"


def _named(processes: Sequence[Path]) -> str:
    found = []
    for process in processes:
        with suppress(OSError):  # it has ended meanwhile
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            found.append(f"{process.name}: {command[:60]}")
    return f" ({'; '.join(found)})" if found else ""

"""The wire: a pseudo-terminal whose slave is the driver's serial port, and the time that bytes take on it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import pty
import select
import struct
import time
import tty

BITS_A_BYTE = 10  # start, eight, stop
SPIN_NS = 70_000  # a sleep ends up to this late; the rest is waited for in a loop
_TCGETS2 = 0x802C542A  # asm-generic/ioctls.h: the only way to read a rate that has no B constant, like 128000
_TERMIOS2 = struct.Struct("4I20s2I")
_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_ONFAULT = 1, 4  # mlockall(2)


class Wire:
    """One half-duplex line; bytes go through one master, and a request's own bytes take their time like a reply's."""

    def __init__(self, link: str) -> None:
        self.link = link
        self._master = self._slave = -1
        self.plug()

    def plug(self) -> None:
        """Open a new pseudo-terminal and point the link at it."""
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        beside = f"{self.link}.{os.getpid()}"
        os.symlink(os.ttyname(self._slave), beside)
        os.replace(beside, self.link)

    def unplug(self) -> None:
        """Take the adapter out: the port is gone, and whoever has it open gets an error."""
        if self._master >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.link)
            os.close(self._slave)
            os.close(self._master)
            self._master = self._slave = -1

    @property
    def plugged(self) -> bool:
        """Return whether the adapter is in."""
        return self._master >= 0

    @property
    def baud(self) -> int:
        """Return the rate that the driver has set, bits a second."""
        fields = _TERMIOS2.unpack(fcntl.ioctl(self._master, _TCGETS2, bytes(_TERMIOS2.size)))
        return int(fields[-1])

    def duration_ns(self, count: int) -> int:
        """Return how long count bytes take at the driver's rate."""
        return count * BITS_A_BYTE * 1_000_000_000 // max(1, self.baud)

    def receive(self, timeout_s: float) -> bytes:
        """Return what the driver has sent, or nothing when nothing came in time."""
        if not self.plugged:
            time.sleep(timeout_s)
            return b""
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        return self._read() if ready else b""

    @property
    def talking(self) -> bool:
        """Return whether the driver has sent bytes that nobody has looked at."""
        return self.plugged and bool(select.select([self._master], [], [], 0)[0])

    def send(self, data: bytes, due_ns: int) -> int:
        """Hand data to the driver at due_ns; return the monotonic time it was done, ns."""
        sleep_until(due_ns)
        if self.plugged:
            with contextlib.suppress(BlockingIOError):  # a driver that never reads loses what does not fit
                os.write(self._master, data)
        return time.monotonic_ns()

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 4096)
        except (BlockingIOError, OSError):
            return b""


def sleep_until(due_ns: int) -> None:
    """Wait for a monotonic time, ns, to a few microseconds."""
    while (left := due_ns - time.monotonic_ns()) > 0:
        if left > SPIN_NS:
            time.sleep((left - SPIN_NS) / 1e9)


def stay_awake() -> None:
    """Keep this process from pauses that no servo makes: collections of garbage, pages that the system took away."""
    gc.collect()
    gc.freeze()
    gc.disable()
    ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_ONFAULT)  # where it is not permitted, all goes on as before


def prefer(priority: int) -> bool:
    """Let this thread go before the machine's other work, as hardware does; return whether that was allowed."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return False
    return True

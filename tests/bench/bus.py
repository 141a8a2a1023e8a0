"""What a cycle of the servo bus costs beside its time on the wire: `python -m tests.bench.bus`.

A cycle is a sync write of six goals and a sync read of six servos, at 1 Mbps, through the vendor's SDK. The servos are
the emulator's, which answers no sooner than they would; how late it was itself, for want of a core, is printed too.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np

from embodied.hardware.bus import Bus, BusSilentError
from embodied.hardware.dynamixel import DYNAMIXEL
from embodied.hardware.feetech import FEETECH
from embodied.hardware.making import prefer_this_thread
from embodied.hardware.vendor import Vendor, sync_bytes
from tests.servo_emulator.process import Emulator

IDS = range(1, 7)
PERIOD_S = 0.02
BITS_A_BYTE = 10


def spinning(vendor: Vendor) -> Any:
    """Return a port that reads as the SDK's own does: at once, again and again until the bytes are there."""
    kind: Any = vendor.port

    class Spinning(kind):  # type: ignore[misc]
        def readPort(self, length):  # noqa: N802
            if not self._coming and self._poll.poll(0):
                self._coming += self._read()
            taken = bytes(self._coming[: max(0, length)])
            del self._coming[: len(taken)]
            return taken

    return Spinning


def measure(vendor: Vendor, port: str, cycles: int, *, spin: bool) -> None:
    """Print one row."""
    bus = Bus(vendor, port, IDS)
    if spin:
        bus._link.port.__class__ = spinning(vendor)
    for servo in IDS:
        bus.set(servo, "return_delay", 0)
    counts = np.full(6, vendor.middle)
    took_s, lost = np.zeros(cycles), 0
    if not spin:  # as the arm's loop does; a thread that spins so keeps the kernel from carrying its bytes
        prefer_this_thread()
    work_s, due_s = time.process_time(), time.monotonic()
    for cycle in range(cycles):
        due_s += PERIOD_S
        time.sleep(max(0.0, due_s - time.monotonic()))
        began_s = time.perf_counter()
        try:
            counts = bus.exchange(counts).position
        except BusSilentError:
            lost += 1
        took_s[cycle] = time.perf_counter() - began_s
    work_s = time.process_time() - work_s
    goal = vendor.register("goal_position").size
    wire_s = sync_bytes(vendor, 6, read=vendor.block_size, written=goal) * BITS_A_BYTE / bus.baud
    p50, p99 = np.percentile(took_s, [50, 99])
    how = "busy polling" if spin else "blocking"
    row = (f"{1e3 * wire_s:.2f}", f"{1e3 * p50:.2f}", f"{1e3 * p99:.2f}", f"{p50 / wire_s:.2f}", f"{p99 / wire_s:.2f}")
    share = f"{work_s / (cycles * PERIOD_S):.1%}"
    print(f"{vendor.name:10} {how:13}", *(f"{cell:>9}" for cell in (*row, share, lost, bus.statistics.retries)))
    bus.close()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main() -> None:
    """Measure both vendors, blocking and busy polling, turn by turn in one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000, help="of each row")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    heads = ("wire ms", "p50 ms", "p99 ms", "p50/wire", "p99/wire", "CPU share", "lost", "retries")
    print(f"load of this machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}; {os.cpu_count()} cores")
    print(f"{'':24}", *(f"{head:>9}" for head in heads))
    for vendor in (FEETECH, DYNAMIXEL):
        with Emulator(vendor=vendor.name, seed=3, no_cameras=True) as emulated:
            for _ in range(options.rounds):
                for spin in (False, True):
                    measure(vendor, emulated.port, options.cycles, spin=spin)
            print(f"{'':10} the emulator itself was late by, in us: {emulated.truth()['bus_late_us']}")


if __name__ == "__main__":
    main()

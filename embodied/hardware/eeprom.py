"""Settings: what a calibration writes into servos, and what they held before, so that it can be put back."""

from __future__ import annotations

from collections.abc import Mapping

from embodied.errors import HardwareError
from embodied.hardware.bus import Bus
from embodied.hardware.calibration import REGISTERS
from embodied.hardware.opening import settle, unsettled
from embodied.hardware.sweep import Fitted


class Settings:
    """The registers of a calibration in all servos of a bus, as they were when this was made."""

    def __init__(self, bus: Bus) -> None:
        """Read them; raise ServoError where a servo does not answer."""
        self._bus = bus
        names = (*bus.vendor.settled, *bus.vendor.cleared, *REGISTERS.values())
        self.before = {servo: {name: bus.get(servo, name) for name in names} for servo in bus.ids}
        self._touched: set[int] = set()

    @property
    def touched(self) -> bool:
        """Say whether anything was written."""
        return bool(self._touched)

    def settle(self) -> None:
        """Have every servo count and turn as it does in use; its motor is off. Raise ServoError as settle."""
        for servo in self._bus.ids:
            if unsettled(self._bus, servo):
                self._touched.add(servo)
                settle(self._bus, servo)

    def write(self, fitted: Mapping[int, Fitted]) -> None:
        """Write a calibration, by id, each register read back; raise ServoError for one that does not hold it."""
        for servo, its in fitted.items():
            self._touched.add(servo)
            for name, register in REGISTERS.items():
                self._bus.set(servo, register, getattr(its, name))

    def restore(self) -> list[int]:
        """Put back what was written over; return the servos with which that failed."""
        lost = []
        for servo in sorted(self._touched):
            try:
                for register, value in self.before[servo].items():
                    self._bus.set(servo, register, value)
            except HardwareError:
                lost.append(servo)
        self._touched = set(lost)
        return lost

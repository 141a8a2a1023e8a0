"""A leader arm on its own servo bus: motors off, moved by hand, read through its own calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied.errors import HardwareError, UnknownNameError
from embodied.hardware.arm import ArmModel
from embodied.hardware.bus import Bus, BusLostError, BusSilentError
from embodied.hardware.calibration import Calibration, default_path, radians_of
from embodied.hardware.opening import greet, read_patiently
from embodied.hardware.port import ports

OPTIONS = ("calibration", "port")


class LeaderArm:
    """A Leader whose motors stay off; a reading that is lost on the way is answered with the one before."""

    def __init__(self, arm: ArmModel, port: str, calibration: Calibration) -> None:
        """Open the bus and let the arm go limp; raise HardwareError where it is another arm than the calibration's."""
        self._arm = arm
        self._bus = Bus(arm.vendor, port, arm.ids, baud=arm.baud)
        try:
            greet(self._bus, arm)
            calibration.check(self._bus, arm)
            self._bus.set_torque(False)
            self._last = read_patiently(self._bus)
        except BaseException:
            self._bus.close()
            raise

    @classmethod
    def open(cls, arm: ArmModel, options: Mapping[str, Any]) -> LeaderArm:
        """Open the leader on options' port, with its calibration: by default that of a robot called ARM-leader.

        Raise UnknownNameError for another option, HardwareError where the port was not said or nothing opens.
        """
        for name in options:
            if name not in OPTIONS:
                raise UnknownNameError("option", name, f"the leader {arm.name}", OPTIONS)
        if (port := options.get("port")) is None:  # with two arms on one machine the only port is never the right one
            raise HardwareError(f"say where the leader is: --leader-option port=...; there are {ports()}")
        path = Path(options.get("calibration", default_path(f"{arm.name}-leader")))
        return cls(arm, str(port), Calibration.load(path, arm))

    @property
    def names(self) -> Sequence[str]:
        """Return the names of its joints."""
        return self._arm.names

    def read(self) -> Mapping[str, float]:
        """Return where its joints are, by name, in rad; raise BusLostError once it does not answer any more."""
        try:
            self._last = self._bus.read()
        except BusLostError:
            raise
        except BusSilentError:  # the next reading will do
            pass
        return dict(zip(self._arm.names, radians_of(self._arm, self._last.position).tolist(), strict=True))

    def close(self) -> None:
        """Let go of the bus; idempotent. The motors stay off."""
        self._bus.close()

"""From setpoints to what servos are told: never beyond the calibrated range, never further than the arm may coast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.errors import HardwareError
from embodied.hardware.arm import ArmModel
from embodied.hardware.bus import Reading
from embodied.hardware.calibration import Calibration, counts_of, radians_of
from embodied.types import Fault, Intervention

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

BEHIND_RAD = 0.12  # a servo that pulls freely follows closer than this
STILL_RAD_S = 0.05
BLOCKED_S = 0.4
ROUNDING_COUNTS = 2  # by which a calibration may be off its model's range


class Goals:
    """Turns setpoints into goals that are safe to be the last: what a dead host leaves, a servo carries out."""

    def __init__(self, arm: ArmModel, calibration: Calibration) -> None:
        """Bound the goals of an arm by its calibration and its limits of velocity."""
        self._arm = arm
        ranges = [calibration.joints[name] for name in arm.names]
        ends = np.sort([counts_of(arm, arm.low_rad), counts_of(arm, arm.high_rad)], axis=0)
        self._low = np.maximum(ends[0], [one.low_count for one in ranges])
        self._high = np.minimum(ends[1], [one.high_count for one in ranges])
        self._rad = 2 * np.pi / arm.vendor.counts_a_turn
        self._counts_s = np.array(arm.limits.velocity or (np.inf,) * len(arm.joints)) / self._rad
        self._watched = np.array([joint.name != arm.gripper for joint in arm.joints])  # a grip is behind on purpose
        self._eased = np.zeros(len(arm.joints), bool)
        self._held: Counts = np.zeros(len(arm.joints), np.int64)
        self._behind_since_s = np.full(len(arm.joints), np.inf)
        self._narrowed = np.zeros(len(arm.joints), bool)
        self._changes: list[Intervention] = []
        self.faults: tuple[Fault, ...] = ()

    def begin(self) -> None:
        """Begin again: every joint follows, and none is behind."""
        self._eased[:] = False
        self._behind_since_s[:] = np.inf
        self.faults = ()

    def ease(self, overloaded: NDArray[np.bool_], reading: Reading) -> None:
        """Have joints that strain for too long stay where they are, until begin."""
        newly = overloaded & ~self._eased
        if newly.any():
            self._held = np.where(newly, reading.position, self._held)
            self._eased |= newly

    def of(self, setpoint: Array, reading: Reading, now_ns: int) -> Counts:
        """Return the goals (n,) for a setpoint (n,) rad: within the range and near enough to where the arm is.

        From where it was when it was last read, it may have moved on since, and may move on for watchdog_s after the
        last word of a host that dies now. Raise HardwareError for a setpoint that is not finite.
        """
        if not np.isfinite(setpoint).all():
            raise HardwareError(f"{self._arm.name} was given the setpoint {setpoint.tolist()}, which is no place")
        age_s = (now_ns - reading.time_ns) * 1e-9
        reach = self._counts_s * max(0.0, self._arm.watchdog_s - age_s)
        wanted = counts_of(self._arm, setpoint)
        near = np.clip(wanted, np.ceil(reading.position - reach), np.floor(reading.position + reach))
        near = np.where(self._eased, self._held, near)
        goals = np.clip(near, self._low, self._high).astype(np.int64)
        self._report(setpoint, wanted)
        self._note(goals, reading)
        return goals

    def take_interventions(self) -> tuple[Intervention, ...]:
        """Return where setpoints have begun to leave the calibrated range since the last call, once for each joint."""
        taken = tuple(self._changes)
        self._changes.clear()
        return taken

    def _report(self, setpoint: Array, wanted: Counts) -> None:
        inside = np.clip(wanted, self._low, self._high)
        narrowed = np.abs(wanted - inside) > ROUNDING_COUNTS
        for index in np.flatnonzero(narrowed & ~self._narrowed).tolist():
            applied = float(radians_of(self._arm, inside)[index])
            self._changes.append(Intervention("position", self._arm.names[index], float(setpoint[index]), applied))
        self._narrowed = narrowed

    def _note(self, goals: Counts, reading: Reading) -> None:
        """Find joints that stay behind their goals without moving."""
        now_s = reading.time_ns * 1e-9
        behind = np.abs(goals - reading.position) * self._rad > BEHIND_RAD
        behind &= np.abs(reading.velocity_counts_s) * self._rad < STILL_RAD_S
        behind &= self._watched
        self._behind_since_s = np.where(behind, np.minimum(self._behind_since_s, now_s), np.inf)
        blocked = now_s - self._behind_since_s > BLOCKED_S
        if not blocked.any() and not self.faults:
            return
        gaps = np.degrees((goals - reading.position) * self._rad)
        self.faults = tuple(
            Fault(
                name, "blocked", f"{name} is {abs(gap):.0f}° from its goal and does not move: is something in its way?"
            )
            for name, gap, is_blocked in zip(self._arm.names, gaps.tolist(), blocked.tolist(), strict=True)
            if is_blocked
        )

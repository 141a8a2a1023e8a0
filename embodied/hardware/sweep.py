"""Sweep: joints turned by hand from stop to stop, and what that says about their zeros and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.hardware.arm import ArmModel, Joint
from embodied.hardware.calibration import CalibrationError, counts_of
from embodied.hardware.vendor import Vendor

Counts = NDArray[np.int64]
Array = NDArray[np.float64]

# How far a homing offset reaches: 11 bits and a sign (Feetech's table); in position mode a quarter of a turn (Robotis'
# e-manual, which says that a larger one is ignored).
HOMING_REACH = {"feetech": 2047, "dynamixel": 1024}
SETTLED_S = 0.5  # a joint whose range grew more recently is on its way to a stop
AGREE_DEG = 30.0  # between the middle pose as it was held and the middle of the stops


@dataclass(frozen=True)
class Fitted:
    """What a joint's servo is to hold, in counts."""

    homing_offset: int
    low_count: int
    high_count: int


def actual_of(vendor: Vendor, present: Counts, offsets: Counts) -> Counts:
    """Return the encoders' own counts (n,), without the homing offsets (n,) that the servos apply."""
    applied = np.where(np.abs(offsets) <= HOMING_REACH[vendor.name], offsets, 0)
    actual: Counts = (np.asarray(present) - vendor.homing_sign * applied) % vendor.counts_a_turn
    return actual


class Sweep:
    """Watches the encoders of an arm that is moved by hand, over the end of a turn too.

    Counts are the encoders' own, less than half a turn from where the middle pose was held: a joint with stops does not
    get further, and so nothing depends on every motion having been seen.
    """

    def __init__(self, arm: ArmModel, middle: Counts) -> None:
        """Begin where the arm is held in its middle pose, at the encoders' own counts (n,)."""
        self._arm, self._vendor = arm, arm.vendor
        self._middle: Counts = np.asarray(middle, np.int64)
        self._now = self._middle.copy()
        self._at_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Forget how far the joints were moved."""
        self._least, self._most = self._now.copy(), self._now.copy()
        self._grew_s = np.full(len(self._now), -np.inf)

    def see(self, actual: Counts, at_s: float) -> None:
        """Take in the encoders' counts (n,), each within a turn, at a time."""
        turn = self._vendor.counts_a_turn
        self._now = self._middle + (np.asarray(actual) - self._middle + turn // 2) % turn - turn // 2
        grows = (self._now < self._least) | (self._now > self._most)
        self._grew_s[grows] = at_s
        self._at_s = at_s
        self._least = np.minimum(self._least, self._now)
        self._most = np.maximum(self._most, self._now)

    def degrees(self) -> dict[str, tuple[float, float, float]]:
        """Return each joint's least, present and greatest angle from the middle pose, in its own direction."""
        signs = np.array([joint.direction for joint in self._arm.joints])
        least, now, most = ((c - self._middle) * signs * self._degree for c in (self._least, self._now, self._most))
        ends = np.sort([least, most], axis=0)
        return {name: (ends[0][i], now[i], ends[1][i]) for i, name in enumerate(self._arm.names)}

    def misfits(self) -> dict[str, str]:
        """Return what is wrong with the joints that were not moved as far as they should be, by name."""
        found = {}
        for index, joint in enumerate(self._arm.joints):
            if not joint.stops:
                continue
            moved = float(self._most[index] - self._least[index]) * self._degree
            expected, slack = np.degrees(joint.high_rad - joint.low_rad), np.degrees(joint.sweep_slack_rad)
            if abs(moved - expected) > slack:
                found[joint.name] = f"moved {moved:.1f} of {expected:.1f} degrees"
            elif self._at_s - self._grew_s[index] < SETTLED_S:
                found[joint.name] = "still moves outwards"
            elif abs(off := self._off_middle(index)) > AGREE_DEG:
                found[joint.name] = f"its middle pose was held {abs(off):.0f} degrees from the middle of its stops"
        return found

    def fitted(self) -> Mapping[str, Fitted]:
        """Return what every servo is to hold; raise CalibrationError naming the joints that do not fit."""
        if misfits := self.misfits():
            raise CalibrationError("; ".join(f"{name} {wrong}" for name, wrong in misfits.items()))
        return {joint.name: self._fit(index, joint) for index, joint in enumerate(self._arm.joints)}

    @property
    def _degree(self) -> float:
        return 360.0 / self._vendor.counts_a_turn

    def _off_middle(self, index: int) -> float:
        return float((self._least[index] + self._most[index]) / 2 - self._middle[index]) * self._degree

    def _fit(self, index: int, joint: Joint) -> Fitted:
        """Lay the middle of the stops on the middle of the range, or the middle pose of a joint without on its zero."""
        vendor, middle = self._vendor, self._vendor.middle
        nominal = np.sort([counts_of(self._arm, self._arm.low_rad), counts_of(self._arm, self._arm.high_rad)], axis=0)
        low, high = (int(end) for end in nominal[:, index])
        at, wanted = float(self._middle[index]), float(middle)
        if joint.stops:
            at = (self._least[index] + self._most[index]) / 2
            wanted = middle + joint.direction * (joint.low_rad + joint.high_rad) / 2 / np.radians(self._degree)
            reach = (self._most[index] - self._least[index]) / 2
            low, high = max(low, int(np.ceil(wanted - reach))), min(high, int(np.floor(wanted + reach)))
        self._require_in_reach(joint, offset := self._offset(round(wanted - at)), at)
        return Fitted(offset, max(0, low), min(vendor.counts_a_turn - 1, high))

    def _offset(self, shift: int) -> int:
        """Return the homing offset that adds shift to the encoder's count, whole turns left out."""
        turn, half = self._vendor.counts_a_turn, self._vendor.counts_a_turn // 2
        offset = (shift * self._vendor.homing_sign + half) % turn - half
        # Half a turn has no negative in 11 bits; a count less is a twelfth of a degree.
        return max(offset, -HOMING_REACH[self._vendor.name]) if offset == -half else offset

    def _require_in_reach(self, joint: Joint, offset: int, at: float) -> None:
        vendor = self._vendor
        reach, turn = HOMING_REACH[vendor.name], vendor.counts_a_turn
        half_range = (joint.high_rad - joint.low_rad) / 2 / np.radians(self._degree)
        # Robotis' encoder begins anew after a turn, whatever its homing offset: a range across that cannot be driven.
        across = vendor.homing_sign > 0 and not half_range <= at % turn <= turn - half_range
        if abs(offset) > reach or across:
            off = abs(at % turn - vendor.middle) * self._degree
            raise CalibrationError(
                f"{joint.name}: its horn sits {off:.0f} degrees off the servo's middle; take it off and put it on "
                f"again with the servo in its middle"
            )

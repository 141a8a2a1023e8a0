"""Watches temperature, voltage and load: it warns, and says when the arm must stop before a servo lets go by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.hardware.arm import ArmModel
from embodied.hardware.bus import Bus, Reading
from embodied.types import Fault

Flags = NDArray[np.bool_]

WARM_C = 15.0  # below the temperature at which a servo switches itself off, and the arm drops
HOT_C = 5.0
LOW_SHARE, LEAST_SHARE = 0.85, 0.7  # of the voltage that was there when the arm was opened
MARGIN_V = 0.3  # above the least voltage at which a servo works
HEAVY_S, TOO_HEAVY_S = 0.5, 1.5  # an STS3215 gives up after 2 s; how long Dynamixels strain is not documented
CERTAIN = 3  # readings in a row: one may be wrong in spite of its checksum
ALARM_KINDS = {"temperature": "temperature", "voltage": "voltage", "overload": "load", "current": "load"}
RELIEF = {
    "temperature": "let it cool: hold the arm and run embodied relax",
    "voltage": "look at the arm's power supply and at its cable",
    "load": "take away what it pushes against or carries",
    "servo": "switch the arm's power off and on, and look at the servo",
}


@dataclass(frozen=True)
class ServoBounds:
    """Where a servo lets go by itself, as its own registers say."""

    most_c: float
    least_v: float
    most_v: float

    @classmethod
    def of(cls, bus: Bus, id: int) -> ServoBounds:
        """Read them from a servo."""
        volts = bus.vendor.volts
        least_v, most_v = bus.get(id, "min_voltage") * volts, bus.get(id, "max_voltage") * volts
        return cls(float(bus.get(id, "max_temperature")), least_v, most_v)


@dataclass(frozen=True)
class _Rule:
    """One thing watched: which servos exceed it, and how one says so."""

    kind: str
    stops: bool
    exceeds: Flags
    words: str  # of {value}
    values: NDArray[np.float64]
    after: int  # readings in a row


class Health:
    """The state of an arm's servos, reading by reading."""

    def __init__(self, arm: ArmModel, bounds: Sequence[ServoBounds], normal_v: NDArray[np.float64]) -> None:
        """Watch an arm whose servos let go at bounds and whose supplies give normal_v (n,)."""
        self._names = arm.names
        self._most_c = np.array([one.most_c for one in bounds])
        least_v = np.array([one.least_v for one in bounds])
        self._most_v = np.array([one.most_v for one in bounds])
        self._low_v = np.maximum(least_v + 2 * MARGIN_V, LOW_SHARE * normal_v)
        self._least_v = np.maximum(least_v + MARGIN_V, LEAST_SHARE * normal_v)
        self._strain = arm.vendor.strain
        self._heavy = max(CERTAIN, round(HEAVY_S * arm.servo_hz))
        self._too_heavy = max(CERTAIN, round(TOO_HEAVY_S * arm.servo_hz))
        self._runs = np.zeros((7, len(arm.joints)), np.int64)  # readings in a row, a rule each
        self.faults: tuple[Fault, ...] = ()
        self.overloaded: Flags = np.zeros(len(arm.joints), bool)
        self.must_stop = False

    def forget(self) -> None:
        """Begin again: what was wrong must be seen anew."""
        self._runs[:] = 0
        self.faults, self.must_stop = (), False

    def note(self, reading: Reading) -> None:
        """Judge a reading: faults, overloaded and must_stop are what it, and those before it, say."""
        rules = self._rules(reading)
        exceeds = np.array([rule.exceeds for rule in rules])
        self._runs = np.where(exceeds, self._runs + 1, 0)
        self.faults, self.must_stop = (), False
        self.overloaded = self._runs[4] >= self._too_heavy
        if not exceeds.any():
            return
        found: dict[tuple[int, str], Fault] = {}
        for rule, runs in zip(rules, self._runs, strict=True):
            for index in np.flatnonzero(runs >= rule.after).tolist():
                found[index, rule.kind] = self._fault(index, rule)
                self.must_stop |= rule.stops
        for index, names in enumerate(reading.alarms):
            if found.pop((index, "servo"), None):
                found |= dict(self._alarm(index, sorted(names)))
        self.faults = tuple(found.values())

    def summary(self, reading: Reading) -> dict[str, float]:
        """Return the numbers of a reading, by joint, as a Step carries them."""
        numbers: dict[str, float] = {}
        for index, name in enumerate(self._names):
            numbers[f"{name}.temperature_c"] = float(reading.temperature_c[index])
            numbers[f"{name}.load"] = float(reading.load[index])
            numbers[f"{name}.voltage_v"] = float(reading.voltage_v[index])
        return numbers

    def _rules(self, reading: Reading) -> tuple[_Rule, ...]:
        celsius, volts, effort = reading.temperature_c, reading.voltage_v, np.abs(reading.load)
        alarmed = np.array([bool(names) for names in reading.alarms])
        heavy = effort >= self._strain
        return (  # of one kind the later word holds
            _Rule("temperature", False, celsius >= self._most_c - WARM_C, "is warm, {:.0f} °C", celsius, CERTAIN),
            _Rule("temperature", True, celsius >= self._most_c - HOT_C, "is too hot, {:.0f} °C", celsius, CERTAIN),
            _Rule("voltage", False, volts <= self._low_v, "has a low supply, {:.1f} V", volts, CERTAIN),
            _Rule("load", False, heavy, "strains, at {:.0%} of its effort", effort, self._heavy),
            _Rule("load", True, heavy, "strains for too long, at {:.0%} of its effort", effort, self._too_heavy),
            _Rule(
                "voltage",
                True,
                (volts <= self._least_v) | (volts > self._most_v),
                "has a supply it cannot work with, {:.1f} V",
                volts,
                CERTAIN,
            ),
            _Rule("servo", True, alarmed, "gives an alarm", effort, CERTAIN),
        )

    def _fault(self, index: int, rule: _Rule) -> Fault:
        name = self._names[index]
        stopped = "; the arm has stopped" if rule.stops else ""
        bound = f", and lets go at {self._most_c[index]:.0f} °C" if rule.kind == "temperature" else ""
        words = rule.words.format(rule.values[index])
        return Fault(name, rule.kind, f"{name} {words}{bound}{stopped}: {RELIEF[rule.kind]}")

    def _alarm(self, index: int, names: list[str]) -> Iterator[tuple[tuple[int, str], Fault]]:
        """Say in a servo's own words what is wrong, instead of that something is."""
        for alarm in names:
            kind = ALARM_KINDS.get(alarm, "servo")
            words = f"{self._names[index]}'s servo gives its {alarm} alarm; the arm has stopped: {RELIEF[kind]}"
            yield (index, kind), Fault(self._names[index], kind, words)

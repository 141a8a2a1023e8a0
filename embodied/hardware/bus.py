"""One servo bus: all servos read and commanded in a packet each way, registers one at a time, nothing guessed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied.errors import HardwareError
from embodied.hardware.link import TRIES, BusStatistics, Link
from embodied.hardware.port import ANSWER_MS
from embodied.hardware.vendor import Row, Status, Vendor, little

Counts = NDArray[np.int64]
Array = NDArray[np.float64]

IDS = range(253)
READ_WITHIN_MS = 13.0  # what one reading may take, retries included: a tick of 20 ms has other work
LEAST_ANSWER_MS = 1.0  # with less left there is no point in asking again
UNHURRIED_MS = 25.0  # an answer outside the loop may come late: the machine may be busy
UNHURRIED_TRIES = 12  # of one register, before a servo is said not to answer
SCAN_MS = 8.0
LOST_AFTER = 5  # readings in a row,
LOST_S = 0.4  # and so long: a machine that is busy may hold back an answer for several ticks
LONGEST_PAUSE_S = 0.1  # between two readings; whoever asks later did not run itself, and has not waited for anyone
BY_HAND = 4.0  # times the speed of its motor, at which a person may swing a joint
LEAST_JUMP = 40  # counts
NONE: frozenset[str] = frozenset()
UNASKED = frozenset({"hardware"})  # alarms of which nothing more is known yet
ANY_ALARM = 0x80  # the bit by which protocol 2 says that there are some


class BusError(HardwareError):
    """A servo bus that does not do what it is told."""


class BusSilentError(BusError):
    """A reading that did not come about within its tick, retries included: the next may."""


class ServoError(BusError):
    """A servo that does not answer, or refuses a value."""


class BusLostError(BusSilentError):
    """Several readings in a row that did not come about: the bus or a servo on it is gone."""


@dataclass(frozen=True)
class Found:
    """A servo that answered."""

    id: int
    model: int
    firmware: str


@dataclass(frozen=True, eq=False)
class Reading:
    """What the servos sensed, in the order of Bus.ids."""

    time_ns: int  # monotonic, of the question
    position: Counts  # (n,) counts, homing offsets included
    velocity_counts_s: Array  # (n,)
    load: Array  # (n,) share of full effort, about -1..1
    voltage_v: Array  # (n,)
    temperature_c: Array  # (n,)
    alarms: tuple[frozenset[str], ...]


class Bus:
    """The servos on one port; not thread-safe: one thread at a time."""

    def __init__(self, vendor: Vendor, port: str, ids: Sequence[int] = (), *, baud: int = 1_000_000) -> None:
        """Open the port; ids are whom read and write_goals are about. Raise PortError where it does not open."""
        self.vendor, self.name, self.ids = vendor, port, tuple(ids)
        self._link = Link(vendor, port, baud)
        self._goal = vendor.register("goal_position")
        self._last: dict[int, int] = {}  # positions of the last reading, by servo
        self._last_ns = 0
        self._no_alarms = (NONE,) * len(self.ids)
        self._silent = 0  # readings in a row that did not come about
        self._silent_s = 0.0  # for how long, less what this program stood still itself
        self._silent_ns = 0  # when that was last found
        self._alarms: dict[int, frozenset[str]] = {}
        self.know([next(iter(vendor.models))] * len(self.ids))

    @property
    def statistics(self) -> BusStatistics:
        """Return what became of the readings so far."""
        return self._link.statistics

    @property
    def baud(self) -> int:
        """Return the baud rate that the port has; set it to speak at another."""
        return self._link.baud

    @baud.setter
    def baud(self, baud: int) -> None:
        self._link.baud = baud

    # -- who is there

    def ping(self, id: int) -> Found | None:
        """Return the servo of that id, or None where nobody answers; raise ServoError where two seem to."""
        with self._link.patience(UNHURRIED_MS):
            return self._identify(id)

    def scan(self, bauds: Sequence[int] = ()) -> list[tuple[int, Found]]:
        """Return every servo that answers, with the baud rate at which it does; of none named, at the present one."""
        before, found = self.baud, list[tuple[int, Found]]()
        try:
            for baud in bauds or (before,):
                self.baud = baud
                with self._link.patience(SCAN_MS):
                    there = [servo for servo in IDS if self._link.ask(servo, "model_number", tries=1) is not None]
                found += [(baud, servo) for servo in map(self.ping, there) if servo]
        finally:
            self.baud = before
        return found

    def know(self, models: Sequence[int]) -> None:
        """Take note of the servos' models, in the order of ids: what their loads mean and how fast they are."""
        known = [self.vendor.models[number] for number in models]
        self._full_load = np.array([model.load_full for model in known])
        self._top_counts_s = {i: BY_HAND * model.top_counts_s for i, model in zip(self.ids, known, strict=True)}

    # -- every tick

    def read(self) -> Reading:
        """Return one reading of all ids, in one sync read; who did not answer well is asked again within the tick.

        Raise BusSilentError where someone has still not, BusLostError where that happens several times in a row, and
        PortLostError where the port is gone.
        """
        self.statistics.cycles += 1
        asked_ns = time.monotonic_ns()
        found: dict[int, Row] = {}
        take = self._taker(asked_ns, found)
        missing, left_ms = self.ids, READ_WITHIN_MS
        while True:
            with self._link.patience(min(ANSWER_MS, left_ms)):
                self._link.sync_read(missing, take)
            missing = tuple([servo for servo in self.ids if servo not in found])
            if not missing:
                break
            left_ms = READ_WITHIN_MS - (time.monotonic_ns() - asked_ns) * 1e-6 - self._link.wire_ms(len(missing))
            if left_ms < LEAST_ANSWER_MS:
                self._give_up(missing, asked_ns)
            self.statistics.retries += 1
        self._silent = 0
        if UNASKED in self._alarms.values():
            self._ask_for_alarms()
        return self._reading(asked_ns, [found[servo] for servo in self.ids])

    def write_goals(self, counts: Counts) -> None:
        """Send goals (n,) in the order of ids, in one sync write; nobody answers that."""
        if not self._link.sync_write(self._goal, self._goal_bytes(counts)):
            raise BusSilentError(f"port {self.name} takes no goals")

    def exchange(self, counts: Counts) -> Reading:
        """Send goals (n,) and return what the servos sense as they take them, as write_goals and read, but sooner."""
        with self._link.holding_back():
            self.write_goals(counts)
        return self.read()

    def _goal_bytes(self, counts: Counts) -> list[int]:
        goal, data = self._goal, list[int]()
        for servo, count in zip(self.ids, counts.tolist(), strict=True):
            data.append(servo)
            data += little(goal.encode(count), goal.size)
        return data

    # -- one register at a time, in no hurry

    def get(self, id: int, register: str) -> int:
        """Return a register's value; raise ServoError, which names both, where the servo does not answer."""
        with self._link.patience(UNHURRIED_MS):
            value = self._link.ask(id, register, tries=UNHURRIED_TRIES)
        if value is None:
            raise ServoError(f"servo {id} on {self.name} does not answer when asked for its {register}")
        return value

    def glance(self, id: int, register: str) -> int | None:
        """Return a register's value if the servo answers at once, as there is time for within a tick, else None."""
        return self._link.ask(id, register, tries=1)

    def set(self, id: int, register: str, value: int, *, again: bool = False) -> None:
        """Write a register and read it back; one that holds the value is left alone, unless again: an EEPROM wears.

        With again it is written unasked: a servo whose answers are lost may still hear.

        Raise ServoError where the servo does not answer, or holds another value afterwards.
        """
        its = self.vendor.register(register)
        try:
            raw = its.encode(value)
        except ValueError as error:
            raise ServoError(f"servo {id}: {register} cannot be {value}: {error}") from error
        if not again and self.get(id, register) == value:
            return
        with self._link.patience(UNHURRIED_MS), self._unlocked(id, register, value):
            for _ in range(TRIES):
                self._link.write(id, its, raw)
                if (held := self._held(id, register, value)) == value:
                    return
        if held is None:
            raise ServoError(f"servo {id} on {self.name} does not answer since {register} was written")
        raise ServoError(f"servo {id} on {self.name} keeps {register} at {held} where {value} was written")

    def set_torque(self, on: bool, ids: Sequence[int] | None = None) -> None:
        """Switch the motors of ids, of all where None, on or off: off, the arm drops where nobody holds it."""
        for servo in self.ids if ids is None else ids:
            self.set(servo, "torque_enable", int(on), again=not on)

    def close(self) -> None:
        """Let go of the port; idempotent. The servos go on as they are, torque included."""
        self._link.close()

    def _identify(self, id: int) -> Found | None:
        before = self.statistics.corrupt
        model, block = self._link.ask(id, "model_number"), self._link.ask_block(id)
        if model is None and block is None and self.statistics.corrupt == before:
            return None
        if model is None or block is None or self._link.another_answers(id):
            raise ServoError(
                f"two servos on {self.name} seem to have id {id}: their answers collide. Leave one of them on the bus "
                f"and give it an id of its own: embodied setup ROBOT --joint NAME"
            )
        return Found(id, model, self.vendor.firmware(lambda register: self.get(id, register)))

    def _held(self, id: int, register: str, value: int) -> int | None:
        """Return what a register holds after a write: a new id or baud rate is where the servo answers then."""
        if register == "id":
            return self._link.ask(value, register)
        if register != "baud_rate":
            return self._link.ask(id, register)
        before = self.baud
        try:
            self.baud = self.vendor.baud(value)
            return self._link.ask(id, register)
        finally:
            self.baud = before

    @contextmanager
    def _unlocked(self, id: int, register: str, value: int) -> Iterator[None]:
        """Let a register of servo id's EEPROM be set to value meanwhile; raise ServoError where it stays locked."""
        if not self.vendor.register(register).eeprom:
            yield
            return
        if "lock" not in self.vendor.registers:
            if self._link.ask(id, "torque_enable"):
                raise ServoError(f"servo {id} on {self.name} takes no settings while its motor is on: relax it first")
            yield
            return
        if not self._wrote_lock(id, 0):  # what is written to a locked EEPROM is read back, and gone with the power
            raise ServoError(f"servo {id} on {self.name} does not unlock its settings, so {register} was not written")
        try:
            yield
        finally:
            self._lock(id, register, value)

    def _lock(self, id: int, register: str, value: int) -> None:
        """Lock the EEPROM again where the servo answers now: a new id or baud rate may have been taken or not."""
        before = self.baud
        try:
            for baud in {before, self.vendor.baud(value)} if register == "baud_rate" else {before}:
                self.baud = baud
                if any(self._wrote_lock(its, 1) for its in ({value, id} if register == "id" else {id})):
                    return
        finally:
            self.baud = before

    def _wrote_lock(self, id: int, value: int) -> bool:
        for _ in range(TRIES):
            self._link.write(id, self.vendor.register("lock"), value)
            if self._link.ask(id, "lock", tries=1) == value:
                return True
        return False

    # -- judging

    def _taker(self, asked_ns: int, found: dict[int, Row]) -> Callable[[Status], None]:
        """Return what is done with each answer of a reading, as it comes: there is time while the next is on the wire.

        Positions that no joint reaches so soon are thrown out; what is said twice in a tick is so.
        """
        doubted: dict[int, int] = {}
        since_s = (asked_ns - self._last_ns) * 1e-9

        def take(status: Status) -> None:
            row = self.vendor.unpack(status.data)
            before, top_counts_s = self._last.get(status.id), self._top_counts_s[status.id]
            if before is not None and abs(row.position - before) > top_counts_s * since_s + LEAST_JUMP:
                said_before, doubted[status.id] = doubted.get(status.id), row.position
                if said_before is None or abs(row.position - said_before) > LEAST_JUMP:
                    self.statistics.implausible += 1
                    return
            found[status.id] = row
            if status.error or self._alarms:
                self._note_alarms(status)

        return take

    def _give_up(self, missing: tuple[int, ...], asked_ns: int) -> None:
        self.statistics.lost += 1
        self._note_silence(asked_ns)
        every = missing == self.ids
        who = f"servo{'s' * (len(missing) > 1)} {', '.join(map(str, missing))} on {self.name}"
        who = f"no servo on {self.name} answered" if every else f"{who} did not answer"
        if self._silent < LOST_AFTER or self._silent_s < LOST_S:
            raise BusSilentError(who)
        where = "the arm's power supply and cables" if every else "its cable, and at that of the servo before it"
        raise BusLostError(f"{who} for {self._silent_s:.1f} s, {self._silent} times asked: look at {where}")

    def _note_silence(self, asked_ns: int) -> None:
        if not self._silent:
            self._silent_s, self._silent_ns = 0.0, asked_ns
        now_ns = time.monotonic_ns()
        self._silent_s += min((now_ns - self._silent_ns) * 1e-9, LONGEST_PAUSE_S)
        self._silent_ns = now_ns
        self._silent += 1

    def _reading(self, asked_ns: int, rows: list[Row]) -> Reading:
        self._last, self._last_ns = {i: row.position for i, row in zip(self.ids, rows, strict=True)}, asked_ns
        numbers = np.array(rows, np.float64)
        return Reading(
            time_ns=asked_ns,
            position=numbers[:, 0].astype(np.int64),
            velocity_counts_s=numbers[:, 1] * self.vendor.velocity_counts_s,
            load=numbers[:, 2] / self._full_load,
            voltage_v=numbers[:, 3] * self.vendor.volts,
            temperature_c=numbers[:, 4],
            alarms=self._alarms_by_servo(),
        )

    def _alarms_by_servo(self) -> tuple[frozenset[str], ...]:
        return tuple([self._alarms.get(servo, NONE) for servo in self.ids]) if self._alarms else self._no_alarms

    def _note_alarms(self, status: Status) -> None:
        """Note a servo's alarms; where its answer says only that there are some, UNASKED stands for them."""
        bits = self.vendor.error_alarms & status.error
        if not bits:
            self._alarms.pop(status.id, None)
        elif bits != ANY_ALARM:
            self._alarms[status.id] = self.vendor.alarm_names(bits)
        else:
            self._alarms.setdefault(status.id, UNASKED)

    def _ask_for_alarms(self) -> None:
        """Ask those servos which alarms they have whose answers said only that there are some."""
        for servo, names in tuple(self._alarms.items()):
            if names is UNASKED and (bits := self._link.ask(servo, "alarms", tries=1)) is not None:
                self._alarms[servo] = self.vendor.alarm_names(bits)

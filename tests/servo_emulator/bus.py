"""The bus: hears requests on the wire, has the servos carry them out, and sends their replies when they are due."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from tests.servo_emulator.faults import Faults
from tests.servo_emulator.packets import Dialect, Reply, Request
from tests.servo_emulator.servo import Servo
from tests.servo_emulator.wire import Wire, prefer, sleep_until

PRIORITY = 20
IDLE_S = 0.05
MAKING_NS = 100_000  # a reply is made in less
LATE_LENGTH = 50_000
MISSING_BYTES = 20
BROKEN_OFF_NS = 2_000_000  # a packet whose rest is this late is forgotten, as a servo's receiver does


class Bus:
    """One thread between the wire and the servos."""

    def __init__(self, wire: Wire, dialect: Dialect, servos: Callable[[], Sequence[Servo]], faults: Faults) -> None:
        self.counts: Counter[str] = Counter()
        self.late_ns: deque[int] = deque(maxlen=LATE_LENGTH)  # how long after its time each reply went out
        self.real_time = False
        self.answering = False
        self._wire, self._dialect, self._servos, self._faults = wire, dialect, servos, faults
        self._buffer = bytearray()
        self._free_ns = self._last_ns = 0  # when the wire is free again; when bytes came last
        self._running = True
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._running = False
        self._thread.join()

    def _run(self) -> None:
        self.real_time = prefer(PRIORITY)
        while self._running:
            if self._faults.active and self._faults.of("unplugged") is not None:
                self._unplug()
            elif not self._wire.plugged:
                self._wire.plug()
            self._listen()

    def _unplug(self) -> None:
        if self._wire.plugged:
            self._wire.unplug()
            self._buffer.clear()

    def _listen(self) -> None:
        data = self._wire.receive(IDLE_S)
        if data:
            now_ns = time.monotonic_ns()
            self.answering = True
            self._take_in(data, now_ns)
            self.answering = False

    def _take_in(self, data: bytes, now_ns: int) -> None:
        if now_ns - self._last_ns > BROKEN_OFF_NS + self._wire.duration_ns(len(self._buffer)):
            self._buffer.clear()
        self._last_ns = now_ns
        arrives_ns = max(now_ns, self._free_ns)  # when the first of these bytes enters the wire
        byte_ns = self._wire.duration_ns(1)
        listening = self._listening()
        if not listening:
            self.counts["unheard"] += 1
            sleep_until(arrives_ns + byte_ns * len(data))
            return
        arrives_ns -= byte_ns * len(self._buffer)
        self._buffer += data
        used_total = 0
        while True:
            request, used, broken = self._dialect.split(self._buffer)
            if not used:
                break
            del self._buffer[:used]
            used_total += used
            self.counts["bad"] += broken
            self._free_ns = max(arrives_ns + byte_ns * used_total, self._free_ns + byte_ns * used)
            if request is not None:
                self._handle(request, listening)

    def _listening(self) -> list[Servo]:
        baud = self._wire.baud
        servos = [servo for servo in self._servos() if servo.baud == baud]
        return [s for s in servos if not self._faults.active or not self._deaf(s)]

    def _deaf(self, servo: Servo) -> bool:
        return any(self._faults.of(kind, id_=servo.id) is not None for kind in ("wrong_baud", "dead"))

    def _handle(self, request: Request, listening: list[Servo]) -> None:
        self.counts["packets"] += 1
        echoed = self._faults.strikes("echoed")
        slots = iter(self._hear(request, listening))
        # A slot is made while the wire is still busy with what comes before it, so that no reply is late for it.
        slot = next(slots, None)
        sleep_until(self._free_ns)
        if echoed:
            self._put(request.raw, self._free_ns)
        while slot is not None:
            data, due_ns = self._schedule(slot)
            ahead = due_ns - time.monotonic_ns() > MAKING_NS
            slot = next(slots, None) if ahead else slot
            if data is not None:
                self._put(data, due_ns)
            slot = slot if ahead else next(slots, None)

    def _hear(self, request: Request, listening: list[Servo]) -> Iterable[list[Reply]]:
        """Have the servos carry out a request, unless a fault keeps it from them."""
        if self._faults.strikes("dropped"):
            return ()
        if self._faults.strikes("corrupted"):  # one bit is wrong, so the check bytes do not fit and no servo listens
            self.counts["bad"] += 1
            return ()
        self.counts["good"] += 1
        return self._dialect.answer(request, listening)

    def _schedule(self, slot: list[Reply]) -> tuple[bytes | None, int]:
        """Return what is heard of the servos of one slot, if anything, and when its last byte has been carried."""
        if not slot:  # a servo that is asked and not there: the next one waits for about as long as it would have taken
            self._free_ns += self._wire.duration_ns(MISSING_BYTES)
            return None, self._free_ns
        data = slot[0].raw if len(slot) == 1 else self._collide([reply.raw for reply in slot])
        self._free_ns += round(slot[0].delay_s * 1e9) + self._wire.duration_ns(len(data))
        id_ = slot[0].servo.id
        if self._faults.strikes("dropped", id_):
            return None, self._free_ns
        if self._faults.strikes("corrupted", id_):
            data = self._faults.flip(data)
        if self._faults.strikes("truncated", id_):
            data = self._faults.cut(data)
        return data, self._free_ns

    def _collide(self, packets: list[bytes]) -> bytes:
        """Return what is heard when servos talk at once: low where any pulls low, and they are not in step."""
        self.counts["collisions"] += 1
        mixed = bytearray(packets[0])
        for packet in packets[1:]:
            for at in range(min(len(mixed), len(packet))):
                mixed[at] &= packet[at] << 1 & 0xFF | 1
        return bytes(mixed)

    def _put(self, data: bytes, due_ns: int) -> None:
        sleep_until(due_ns)
        if self._wire.talking:  # the driver did not wait: neither its bytes nor the servo's survive
            self.counts["talked_over"] += 1
            self._wire.receive(0)
            data = self._faults.flip(data) if data else data
        sent_ns = self._wire.send(data, due_ns)
        self.late_ns.append(sent_ns - due_ns)

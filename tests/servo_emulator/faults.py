"""Faults on demand: what goes wrong with packets and servos, how often and for how long, each counted."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

PACKET_FAULTS = ("dropped", "corrupted", "truncated", "echoed")
SERVO_FAULTS = ("overload", "overheat", "voltage", "dead", "wrong_baud")
PORT_FAULTS = ("unplugged",)
CAMERA_FAULTS = ("stalled_camera", "lost_camera")
KINDS = PACKET_FAULTS + SERVO_FAULTS + PORT_FAULTS + CAMERA_FAULTS


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: for a share of packets, one servo or all of them, one camera or all, until a time."""

    kind: str
    share: float = 1.0
    id: int | None = None
    camera: str | None = None
    value: float | None = None
    until: float | None = None  # monotonic seconds

    @property
    def over(self) -> bool:
        """Return whether its time is up."""
        return self.until is not None and time.monotonic() >= self.until


@dataclass
class Faults:
    """What is wrong at the moment. Set by the control thread, looked at by all."""

    random: random.Random
    active: tuple[Fault, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    changing: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        """Begin a fault; one of the same kind, servo and camera gives way to it."""
        key = (fault.kind, fault.id, fault.camera)
        with self.changing:
            self.active = (*(f for f in self.active if (f.kind, f.id, f.camera) != key), fault)

    def clear(self) -> None:
        """End them all."""
        with self.changing:
            self.active = ()

    def expire(self) -> None:
        """Drop those whose time is up."""
        if any(fault.over for fault in self.active):
            with self.changing:
                self.active = tuple(fault for fault in self.active if not fault.over)

    def of(self, kind: str, *, id_: int | None = None, camera: str | None = None) -> Fault | None:
        """Return the fault of a kind that concerns the servo or camera, if there is one."""
        for fault in self.active:
            if fault.kind == kind and fault.id in (None, id_) and fault.camera in (None, camera) and not fault.over:
                return fault
        return None

    def strikes(self, kind: str, id_: int | None = None) -> bool:
        """Draw whether the fault hits this packet, and count it if so."""
        fault = self.of(kind, id_=id_) if self.active else None
        hit = fault is not None and self.random.random() < fault.share
        self.counts[kind] += hit
        return hit

    def flip(self, data: bytes) -> bytes:
        """Return data with one bit the other way round."""
        bit = self.random.randrange(8 * len(data))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        return bytes(flipped)

    def cut(self, data: bytes) -> bytes:
        """Return the beginning of data, at least a byte short."""
        return data[: self.random.randrange(len(data))]

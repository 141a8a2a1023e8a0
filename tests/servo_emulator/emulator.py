"""The emulated arm: wire, bus, servos and physics put together."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

from tests.servo_emulator.assembly import build_servos
from tests.servo_emulator.bus import Bus
from tests.servo_emulator.faults import Faults
from tests.servo_emulator.servo import Servo
from tests.servo_emulator.wire import Wire
from tests.servo_emulator.world import World

SWITCH_S = 5e-5  # between Python's threads: the bus answers on time while frames are drawn


@dataclass(frozen=True)
class Options:
    """What arm to emulate, and where its port, cameras and control socket are."""

    port_link: str
    control: str
    vendor: str = "feetech"
    state: str = "calibrated"
    seed: int = 0
    width: int = 128
    height: int = 128
    fps: float = 20.0


class Arm:
    """Everything that moves or answers."""

    def __init__(self, options: Options) -> None:
        sys.setswitchinterval(SWITCH_S)
        self.options = options
        servos, dialect, self.journal = build_servos(options.vendor, options.state, options.seed)
        self.servos: tuple[Servo, ...] = tuple(servos)
        self.attached: tuple[Servo, ...] = self.servos
        self.faults = Faults(random.Random(options.seed))
        self.world = World(self.servos)
        self.wire = Wire(options.port_link)
        self.bus = Bus(self.wire, dialect, lambda: self.attached, self.faults)

    def start(self) -> None:
        """Switch it on."""
        self.world.start()
        self.bus.start()

    def stop(self) -> None:
        """Switch it off, and take the port away."""
        self.bus.stop()
        self.world.stop()
        self.wire.unplug()

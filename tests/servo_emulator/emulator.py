"""The emulated arm: wire, bus, servos, physics, hands, stage and cameras put together."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.servo_emulator.assembly import build_servos
from tests.servo_emulator.bus import Bus
from tests.servo_emulator.faults import Fault, Faults
from tests.servo_emulator.hands import Hands
from tests.servo_emulator.servo import Servo, Trouble
from tests.servo_emulator.stage import Stage
from tests.servo_emulator.view import LIVE, LOST, NAMES, STALLED, View
from tests.servo_emulator.wire import Wire
from tests.servo_emulator.world import World

if TYPE_CHECKING:
    from tests.servo_emulator.streams import CameraProcess

SWITCH_S = 2e-5  # between Python's threads: the bus answers on time while frames are drawn
OVERHEATED_C = 85.0
SAGGED = 0.3  # of the supply: below the least voltage of every kind of servo here


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
    cameras: bool = True
    grace_s: float = 10.0  # beyond a task's horizon: a real arm must first come to where it begins


class Arm:
    """Everything that moves, answers or looks."""

    def __init__(self, options: Options) -> None:
        sys.setswitchinterval(SWITCH_S)
        self.options = options
        servos, dialect, self.journal = build_servos(options.vendor, options.state, options.seed)
        self.servos: tuple[Servo, ...] = tuple(servos)
        self.attached: tuple[Servo, ...] = self.servos
        self.faults = Faults(random.Random(options.seed))
        self.world = World(self.servos)
        self.hands = Hands(self.world)
        self.stage = Stage(self.world, options.grace_s)
        self.wire = Wire(options.port_link)
        self.bus = Bus(self.wire, dialect, lambda: self.attached, self.faults)
        self.view = View(self.world.model)
        self.show_layout()
        self.cameras = _cameras(self.view, options) if options.cameras else None
        # Python's lock is the bus's while it answers; the physics makes up for it at once.
        self.world.held_up = lambda: self.bus.answering
        self._troubled = False
        self.world.each_step += [self._trouble, lambda dt_s: self.view.write(self.world.data)]

    @property
    def urls(self) -> dict[str, str]:
        """Return where each camera's stream is."""
        return {} if self.cameras is None else self.cameras.urls

    def start(self) -> None:
        """Switch it on."""
        self.world.start()
        self.bus.start()

    def stop(self) -> None:
        """Switch it off, and take the port away."""
        if self.cameras is not None:
            self.cameras.stop()
        self.bus.stop()
        self.world.stop()
        self.wire.unplug()

    def power_cycle(self) -> None:
        """Take the servos' power away and give it back: they are limp, and what was not saved is gone."""
        with self.world.lock:
            for servo in self.servos:
                servo.power_on()

    def show_layout(self) -> None:
        """Let the cameras see what stands on the table."""
        self.view.write(self.world.data)
        self.view.write_looks(self.world.model)

    def _trouble(self, dt_s: float) -> None:
        """Hand the servos what is wrong with them, under the world's lock, every step that something is."""
        if not self.faults.active and not self._troubled:
            return
        self.faults.expire()
        self._troubled = bool(self.faults.active)
        for servo in self.servos:
            overload, heat, sag = (self.faults.of(k, id_=servo.id) for k in ("overload", "overheat", "voltage"))
            servo.trouble = Trouble(
                load=_value(overload, 1.0),
                temperature_c=_value(heat, OVERHEATED_C),
                voltage_v=_value(sag, SAGGED * servo.kind.supply_v),
            )
        for name in NAMES:
            stalled, lost = (self.faults.of(kind, camera=name) for kind in ("stalled_camera", "lost_camera"))
            self.view.set_state(name, LOST if lost else STALLED if stalled else LIVE)


def _value(fault: Fault | None, default: float) -> float | None:
    return None if fault is None else default if fault.value is None else fault.value


def _cameras(view: View, options: Options) -> CameraProcess:
    from tests.servo_emulator.streams import CameraProcess

    return CameraProcess(view, width=options.width, height=options.height, fps=options.fps)

"""A real arm as a servo body: a setpoint in, a reading out, tick by tick; it lets go of nothing unless told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from embodied.errors import HardwareError, ProtocolError
from embodied.hardware.arm import ArmModel
from embodied.hardware.bus import Bus, BusError, BusLostError, BusSilentError, Reading
from embodied.hardware.calibration import Calibration, radians_of
from embodied.hardware.goals import Goals
from embodied.hardware.health import CERTAIN, Health
from embodied.hardware.homing import go_home
from embodied.hardware.opening import arm_watchdog, hold, open_bus, read_patiently, set_up
from embodied.hardware.port import PortError
from embodied.hardware.stage import Stage
from embodied.hardware.verbs import Verbs
from embodied.pace import Pace
from embodied.types import Fault, Frame, Intervention, Observation, SkillCall, Step, TextAction

Array = NDArray[np.float64]

FRESH_TICKS = 1.5  # a reading that is no older is not taken again
FRAMES_S = 2.0  # how long an episode waits for a camera that has stalled
AGAIN_S = 0.05  # between two words to a stage that has not given up yet
UNTOLD = 0.8  # of the watchdog's time: whoever has stood still for so long looks before it moves


class Shot(Protocol):
    """What a camera has to show now."""

    @property
    def frame(self) -> Frame | None:
        """Return the newest frame while it is fresh."""

    @property
    def age_s(self) -> float:
        """Return how old the newest picture is."""

    @property
    def state(self) -> Literal["live", "stalled", "lost"]:
        """Return whether the camera gives pictures."""

    @property
    def detail(self) -> str:
        """Return why there is no frame."""


class FrameSource(Protocol):
    """A camera that is read by someone else and never waited for: embodied.cameras.reader.CameraReader."""

    def latest(self) -> Shot:
        """Return its newest frame, or why there is none."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class Parts:
    """What belongs to one arm that stands here."""

    port: str
    calibration: Calibration
    cameras: Mapping[str, FrameSource]
    stage: Stage


class ServoArm:
    """An arm on a servo bus, driven by RealTimeRobot's loop: everything but stop is called on that thread."""

    def __init__(self, arm: ArmModel, parts: Parts, *, episode_s: float) -> None:
        """Open the bus, check every servo and hold the arm where it stands.

        Raise PortError, ServoError or CalibrationError, with all that is wrong; nothing has moved then.
        """
        self.arm, self.servo_hz, self.spec = arm, arm.servo_hz, arm.spec()
        self._parts, self._episode_s = parts, episode_s
        self._tick_ns = round(1e9 / arm.servo_hz)
        self._goals = Goals(arm, parts.calibration)
        self._verbs = Verbs(arm)
        if arm.chain is not None:
            self.tool_position = arm.chain.tool_position  # the mark of a Kinematic: only such an arm is one
        self._stopped = threading.Event()
        self._instruction = ""
        self._ends_s: float | None = None  # None: no episode runs
        self._success = self._truncated = False
        self._missed: tuple[Fault, ...] = ()
        self._told_ns = self._sensed_ns = 0
        self._asked = 0  # whose motor was looked at last
        self._lost = False
        self._watchdog = "bus_watchdog" in arm.vendor.registers
        self._bus: Bus | None = None
        self._reading: Reading
        self._health: Health
        self._open()

    @property
    def bus(self) -> Bus:
        """Return the arm's bus; raise ProtocolError after close."""
        if self._bus is None:
            raise ProtocolError(f"{self.arm.name} is closed")
        return self._bus

    # -- a Servo

    def reset(self, seed: int, task: str) -> Observation:
        """Go home, have the scene laid out, and begin an episode, if need be without the frame of a lost camera.

        A bus that was lost is opened anew. Raise HardwareError where the arm cannot get home or was stopped on its way.
        """
        self.spec.require_task(task)
        if seed < 0:
            raise ProtocolError(f"a seed is 0 or more, got {seed}")
        self._stopped.clear()
        self._ends_s = None
        self._success = self._truncated = False
        self._revive()
        self._goals.begin()
        go_home(self, self._stopped)
        self._instruction = self._lay_out(seed, task)
        self._await_frames()
        self._sense(self.bus.read)
        self._ends_s = time.monotonic() + self._episode_s
        return self._observe(frames=True)

    def follow(self, setpoints: Array, *, frames: bool) -> Step:
        """Send setpoints (k, n) rad, a tick each, and read the servos after each; of none, only look.

        Raise BusLostError once the servos, or the port, have been silent for several ticks: what was sent was sent.
        """
        due_ns = time.monotonic_ns()
        for index, setpoint in enumerate(setpoints):
            time.sleep(max(0, due_ns + index * self._tick_ns - time.monotonic_ns()) * 1e-9)
            self.tick(setpoint)
        if not len(setpoints) and time.monotonic_ns() - self._sensed_ns > FRESH_TICKS * self._tick_ns:
            self._sense(self.bus.read)
        if not len(setpoints) and self._ends_s is not None:
            self._require_next_on()
        self._judge()
        return self._step(frames=frames, looked=not len(setpoints))

    def stop(self) -> None:
        """Interrupt a reset: the way home, and the wait for the scene."""
        self._stopped.set()
        self._parts.stage.cancel()

    def close(self) -> None:
        """Let go of port, cameras and stage; idempotent. The arm holds where it is."""
        self._ends_s = None
        with ExitStack() as closing:
            for camera in self._parts.cameras.values():
                closing.callback(camera.close)
            closing.callback(self._parts.stage.close)
            if self._bus is not None:
                bus, self._bus = self._bus, None
                closing.callback(bus.close)
                with suppress(HardwareError):  # a bus that is lost has nothing to be told
                    # It would stop an arm that nobody talks to, and refuse the next one's goals.
                    arm_watchdog(bus, 0.0)

    # -- Lowering and Kinematic

    def lower(self, action: TextAction | SkillCall, at: Array) -> tuple[Array, tuple[Intervention, ...]]:
        """Return the joints (n,) rad that carry out a verb or skill from at (n,) rad, or at and why not."""
        return self._verbs.lower(action, at, self.measured_rad)

    @property
    def measured_rad(self) -> Array:
        """Return where the joints were last read to be (n,)."""
        return radians_of(self.arm, self._reading.position)

    # -- ticks, for homing too

    def tick(self, setpoint: Array) -> Reading:
        """Send one setpoint (n,) rad and return what was read last; after a pause nothing is sent unseen."""
        now_ns = time.monotonic_ns()
        if self._watchdog and now_ns - self._told_ns > UNTOLD * 1e9 * self.arm.watchdog_s:
            arm_watchdog(self.bus, self.arm.watchdog_s)  # it may have stopped the servos, which take no goals then
        self._told_ns = now_ns
        if now_ns - self._reading.time_ns > UNTOLD * 1e9 * self.arm.watchdog_s:
            self._sense(self.bus.read)
            if self._missed:
                return self._reading
            now_ns = time.monotonic_ns()
        goals = self._goals.of(setpoint, self._reading, now_ns)
        self._sense(lambda: self.bus.exchange(goals))
        return self._reading

    @property
    def health(self) -> Health:
        """Return the state of the servos."""
        return self._health

    def _sense(self, ask: Callable[[], Reading]) -> None:
        """Take a reading; where this once there is none, the last one stands and the next Step says so."""
        self._missed, self._sensed_ns = (), time.monotonic_ns()
        try:
            with self._noting_loss():
                reading = ask()
        except BusLostError:
            raise
        except BusSilentError as error:
            self._missed = (Fault("bus", "bus", str(error)),)
            return
        self._reading = reading
        self._health.note(reading)
        self._goals.ease(self._health.overloaded, reading)

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        """Remember that the bus was lost meanwhile, or its port: what is there when it comes back may be another's."""
        try:
            yield
        except BusLostError:
            self._lost = True
            raise
        except PortError as error:
            self._lost = True
            raise BusLostError(str(error)) from error

    # -- the parts

    def _open(self) -> None:
        self._bus, bounds = open_bus(self.arm, self._parts.port, self._parts.calibration)
        try:
            self._reading = read_patiently(self._bus)
        except BaseException:
            self._bus.close()
            raise
        self._health = Health(self.arm, bounds, self._reading.voltage_v)
        self._lost = False

    def _revive(self) -> None:
        """Have the arm hold, and refuse to begin where it is not fit to move.

        Where the bus was lost or a motor is off its power may have been too: then it is opened anew, as any other arm.
        """
        bus = self.bus
        try:
            anew = self._lost or any(bus.get(servo, "torque_enable") != 1 for servo in bus.ids)
            if not anew:
                set_up(bus, self.arm)
                self._reading = hold(bus)
        except (BusError, PortError):
            anew = True
        if anew:
            bus.close()
            self._open()
        self._health.forget()
        for _ in range(CERTAIN):
            self._reading = read_patiently(self.bus)
            self._health.note(self._reading)
        if self._health.must_stop:
            raise HardwareError("; ".join(fault.detail for fault in self._health.faults))
        arm_watchdog(self.bus, self.arm.watchdog_s)

    def _lay_out(self, seed: int, task: str) -> str:
        """Have the stage lay out the scene, however long that takes, while the arm holds and is watched."""
        laid: Future[str] = Future()

        def begin() -> None:
            try:
                laid.set_result(self._parts.stage.begin(seed, task))
            except BaseException as error:  # whoever waits for it is told
                laid.set_exception(error)

        threading.Thread(target=begin, name="stage", daemon=True).start()

        def over() -> bool:
            if self._stopped.is_set():
                self._parts.stage.cancel()  # again, since one that had not begun yet took no note of it
            return laid.done()

        try:
            self._hold_until(over)
        except BaseException:  # the bus may be lost: a stage that went on would read what is typed for the next episode
            while not laid.done():
                self._parts.stage.cancel()
                wait([laid], AGAIN_S)
            raise
        return laid.result()

    def _await_frames(self) -> None:
        """Hold until every camera has a frame, but not for long: a policy may do without the one that has none."""
        due_s = time.monotonic() + FRAMES_S

        def over() -> bool:
            seen = all(camera.latest().frame is not None for camera in self._parts.cameras.values())
            return seen or self._stopped.is_set() or time.monotonic() > due_s

        self._hold_until(over)

    def _hold_until(self, over: Callable[[], bool]) -> None:
        """Hold the arm, and watch it; raise HardwareError where it was stopped meanwhile."""
        held = radians_of(self.arm, self._reading.position)
        pace = Pace(1 / self.servo_hz)
        while not over():
            pace.wait()
            self.tick(held)
        if self._stopped.is_set():
            raise HardwareError(f"{self.arm.name} was stopped before its episode began")

    def _require_next_on(self) -> None:
        """Ask one servo in turn whether its motor is on; raise HardwareError if not: it has no power, or had none."""
        self._asked = (self._asked + 1) % len(self.arm.joints)
        joint = self.arm.joints[self._asked]
        with self._noting_loss():
            on = self.bus.glance(joint.id, "torque_enable") != 0
        if on:
            return
        self._sense(self.bus.read)
        if not self._reading.alarms[self._asked]:  # of an alarm that switched it off there is more to be said
            raise HardwareError(f"{joint.name}'s motor is off: look at its supply, and reset once the arm is held")

    def _judge(self) -> None:
        if self._ends_s is None or self._success or self._truncated:
            return
        outcome = self._parts.stage.outcome
        self._success = outcome is True
        over = outcome is False or time.monotonic() > self._ends_s or self._health.must_stop
        self._truncated = over and not self._success

    def _step(self, *, frames: bool, looked: bool) -> Step:
        faults = (*self._missed, *self._health.faults, *self._goals.faults, *(self._camera_faults() if looked else ()))
        return Step(
            self._observe(frames=frames),
            reward=float(self._success and not looked),
            success=self._success,
            terminated=self._success,
            truncated=self._truncated,
            interventions=self._goals.take_interventions(),
            faults=faults,
            health=self._numbers() if looked else {},
        )

    def _observe(self, *, frames: bool) -> Observation:
        shown: dict[str, Frame] = {}
        if frames:
            for name, camera in self._parts.cameras.items():
                if (frame := camera.latest().frame) is not None:
                    shown[name] = frame
        return Observation(self._reading.time_ns, shown, self.measured_rad.astype(np.float32), self._instruction)

    def _camera_faults(self) -> tuple[Fault, ...]:
        shots = ((name, camera.latest()) for name, camera in self._parts.cameras.items())
        return tuple(Fault(name, f"camera_{shot.state}", shot.detail) for name, shot in shots if shot.state != "live")

    def _numbers(self) -> dict[str, float]:
        numbers = self._health.summary(self._reading)
        statistics = self.bus.statistics
        numbers |= {"bus.retries": float(statistics.retries), "bus.lost": float(statistics.lost)}
        numbers |= {f"{name}.age_ms": 1e3 * camera.latest().age_s for name, camera in self._parts.cameras.items()}
        return numbers

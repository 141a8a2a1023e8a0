"""Makes the robot of an arm that stands here: its port, calibration, cameras and stage, and the loop around them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from embodied.errors import HardwareError
from embodied.hardware.arm import ArmModel
from embodied.hardware.body import FrameSource, Parts, ServoArm
from embodied.hardware.calibration import Calibration, default_path
from embodied.hardware.port import only_port
from embodied.hardware.stage import open_stage
from embodied.realtime import RealTimeRobot
from embodied.safety import SafeRobot
from embodied.types import Camera, Robot

# How long Python lets a thread go on that another waits for. A tick is four times as long as Python's own 5 ms, and
# what it has to do it does in several turns.
SWITCH_S = 0.5e-3
PRIORITY = 10
LEAST_HZ, ROUNDING = 1.0, 1e-6
LONGEST_S = 86_400.0
SIZES_PX = range(16, 2161)
NICENESS = -10


def make_arm(
    arm: ArmModel,
    *,
    port: str | None,
    calibration: str | None,
    cameras: Mapping[str, Any],
    stage: str,
    episode_s: float,
) -> RealTimeRobot:
    """Open what belongs to the arm, then the arm itself on the loop's thread.

    The cameras named are those that the robot declares, so that a policy that needs another one is told so at the
    handshake. Raise HardwareError for what cannot be opened; nothing stays open then.
    """
    _check(arm, episode_s)
    arm = replace(arm, cameras=_declared(arm, cameras))
    with ExitStack() as opened, _preferred():
        calibrated = Calibration.load(Path(calibration) if calibration else default_path(arm.name), arm)
        readers = {camera.name: _open_camera(camera, cameras[camera.name]) for camera in arm.cameras}
        for reader in readers.values():
            opened.callback(reader.close)
        staged = open_stage(stage)
        opened.callback(staged.close)
        found = only_port("--option port=/dev/ttyACM0") if port is None else port
        parts = Parts(found, calibrated, readers, staged)

        def make() -> Robot:
            prefer_this_thread()
            body = ServoArm(arm, parts, episode_s=episode_s)
            try:
                return SafeRobot(body)
            except BaseException:
                body.close()
                raise

        robot = RealTimeRobot(make)
        opened.pop_all()  # the arm closes them
    return robot


def _check(arm: ArmModel, episode_s: float) -> None:
    """Raise HardwareError for what is no rate, no time or no size, before anything is opened."""
    ticks = arm.servo_hz / arm.control_hz if arm.control_hz >= LEAST_HZ else 0.0
    if ticks < 1 or abs(ticks - round(ticks)) > ROUNDING:
        rates = [f"{arm.servo_hz / n:g}" for n in range(1, round(arm.servo_hz / LEAST_HZ) + 1)]
        few = ", ".join(rate for rate in rates if len(rate) < 5)
        raise HardwareError(f"control_hz cannot be {arm.control_hz:g}; {arm.name} takes {few} commands a second")
    if not 0 < episode_s <= LONGEST_S:
        raise HardwareError(f"episode_s cannot be {episode_s:g}; an episode takes up to {LONGEST_S:g} s")
    for side in {side for camera in arm.cameras for side in (camera.height, camera.width)}:
        if side not in SIZES_PX:
            raise HardwareError(f"size cannot be {side}; frames have {SIZES_PX[0]} to {SIZES_PX[-1]} pixels a side")


def _declared(arm: ArmModel, cameras: Mapping[str, Any]) -> tuple[Camera, ...]:
    known = [camera.name for camera in arm.cameras]
    if unknown := [name for name in cameras if name not in known]:
        raise HardwareError(f"no camera {unknown[0]!r}; {arm.name} has {known}")
    return tuple(camera for camera in arm.cameras if camera.name in cameras)


def _open_camera(camera: Camera, settings: object) -> FrameSource:
    from embodied.cameras.reader import CameraReader  # an arm without cameras needs no OpenCV
    from embodied.cameras.settings import CameraSettings

    return CameraReader(camera, CameraSettings.of(cast(Any, settings)))


@contextmanager
def _preferred() -> Iterator[None]:
    """Put the threads that are made meanwhile, the cameras', before other programs: the loop may wait for one of them.

    A policy in this process is not put before them: the kernel carries a serial port's bytes at the usual priority, and
    must not wait for it.
    """
    sys.setswitchinterval(SWITCH_S)
    before: int | None = None
    with suppress(OSError, AttributeError):  # not permitted, or another system
        before = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    try:
        yield
    finally:
        if before is not None:
            os.setpriority(os.PRIO_PROCESS, 0, before)


def prefer_this_thread() -> None:
    """Have this thread woken before all others, where that is allowed."""
    with suppress(OSError, AttributeError):  # not permitted, or another system
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))

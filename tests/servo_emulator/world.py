"""The physics in real time: MuJoCo's SO-101 on its table, its actuators driven by the servos."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.scene import JOINTS, Scene
from tests.servo_emulator.servo import VOLTAGE_SAG, Servo
from tests.servo_emulator.wire import prefer

Array = NDArray[np.float64]

PRIORITY = 10
REST_RAD = np.array([0.0, -1.74, 1.69, 0.93, 0.0, 0.1])  # folded, where gravity leaves it without power
MOST_BEHIND_S = 0.1  # a machine that was busy for longer makes the emulated time slip
MOST_HELD_UP_S = 0.003
TRACE_S = 60.0
MODEL_NM = 3.35  # the torque that so101.xml's gains, friction and armature belong to


class World:
    """Scene, servos and the thread that moves them; hold lock to look at or touch the scene."""

    def __init__(self, servos: Sequence[Servo]) -> None:
        self.lock = threading.Lock()
        self.scene = Scene()
        self.model, self.data = self.scene.model, self.scene.data
        self.servos = tuple(servos)
        self.each_step: list[Callable[[float], None]] = []  # called under the lock, with the seconds of a step
        self.held_up: Callable[[], bool] = lambda: False  # whether to put a step off for a moment
        self.slipped_s = 0.0
        self.fastest_rad_s = np.zeros(len(JOINTS))
        self.trace: deque[tuple[int, list[float]]] = deque(maxlen=round(TRACE_S / self.model.opt.timestep))
        self._dt_s = float(self.model.opt.timestep)
        joints = [self.model.joint(name) for name in JOINTS]
        self.qpos = np.array([joint.qposadr[0] for joint in joints])
        self.dof = np.array([joint.dofadr[0] for joint in joints])
        self._actuator = np.array([self.model.actuator(name).id for name in JOINTS])
        self._gain = [_Gain(self.model, a, d, s) for a, d, s in zip(self._actuator, self.dof, servos, strict=True)]
        self._running = True
        self._thread = threading.Thread(target=self._run, name="physics", daemon=True)
        self.clear_table(REST_RAD)

    def clear_table(self, arm_rad: Array) -> None:
        """Put the arm at arm_rad (6,), at rest, with nothing else on the table."""
        mujoco.mj_resetData(self.model, self.data)
        self.model.actuator_ctrllimited[self._actuator] = 0  # a servo pushes against its stop if told to
        self.scene.park_all()
        self.data.qpos[self.qpos] = arm_rad
        self.data.ctrl[self._actuator] = arm_rad
        self.scene.refresh()
        self._sense()

    def start(self) -> None:
        """Begin to move."""
        self._thread.start()

    def stop(self) -> None:
        """Stand still."""
        self._running = False
        self._thread.join()

    def _run(self) -> None:
        prefer(PRIORITY)
        deadline = time.monotonic()
        while self._running:
            while self.held_up() and time.monotonic() < deadline + MOST_HELD_UP_S:
                time.sleep(MOST_HELD_UP_S / 20)
            with self.lock:
                self._step()
            deadline += self._dt_s
            behind = time.monotonic() - deadline
            if behind > MOST_BEHIND_S:
                self.slipped_s += behind
                deadline += behind
            elif behind < 0:
                time.sleep(-behind)

    def _step(self) -> None:
        for index, servo in enumerate(self.servos):
            target = servo.advance(self._dt_s)
            self._gain[index].set(servo.strength if target is not None else 0.0)
            if target is not None:
                self.data.ctrl[self._actuator[index]] = target
        for each in self.each_step:
            each(self._dt_s)
        mujoco.mj_step(self.model, self.data)
        self._sense()
        self.trace.append((time.monotonic_ns(), self.data.qpos[self.qpos].tolist()))

    def _sense(self) -> None:
        position, velocity = self.data.qpos[self.qpos].tolist(), self.data.qvel[self.dof]
        force = self.data.actuator_force[self._actuator].tolist()
        np.maximum(self.fastest_rad_s, np.abs(velocity), out=self.fastest_rad_s)
        pull = sum(abs(f) / s.kind.stall_nm for f, s in zip(force, self.servos, strict=True))
        supply = 1.0 - VOLTAGE_SAG * pull
        for servo, q, qd, f in zip(self.servos, position, velocity.tolist(), force, strict=True):
            servo.sense(q, qd, f, supply)


class _Gain:
    """How hard one actuator may pull; a limp one leaves the joint to gravity, friction and hands."""

    def __init__(self, model: mujoco.MjModel, actuator: int, dof: int, servo: Servo) -> None:
        # A weaker servo than the one that so101.xml is of: its gains, friction and rotor scale with its torque.
        scale = servo.kind.stall_nm / MODEL_NM
        model.dof_damping[dof] *= scale
        model.dof_frictionloss[dof] *= scale
        model.dof_armature[dof] *= scale
        self._model, self._actuator, self._stall_nm = model, actuator, servo.kind.stall_nm
        self._gain = model.actuator_gainprm[actuator].copy() * scale
        self._bias = model.actuator_biasprm[actuator].copy() * scale
        self._strength = -1.0

    def set(self, strength: float) -> None:
        """Let the actuator pull with a share of the stall torque; 0: limp."""
        if strength == self._strength:
            return
        self._strength = strength
        self._model.actuator_gainprm[self._actuator] = self._gain * (strength > 0)
        self._model.actuator_biasprm[self._actuator] = self._bias * (strength > 0)
        self._model.actuator_forcerange[self._actuator] = (-strength * self._stall_nm, strength * self._stall_nm)

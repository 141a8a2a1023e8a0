"""A person's hands on the arm: they turn joints while torque is off, and strain against it while it is on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from envs.scene import JOINTS
from tests.servo_emulator.world import World

MOST_NM = 8.0  # more than a servo has, so that a hand can win
STIFF_NM_RAD, DAMP_NM_S_RAD = 150.0, 4.0  # for the armature below
ARMATURE_KG_M2 = 0.028
BEYOND_RAD = 0.02  # a sweep leans on the stops this much
SETTLE_S = 0.3
# In these poses the joint can be turned from stop to stop without touching the arm or the table; found by trying.
_CLEAR = {
    "shoulder_lift": (0.0, 0.37, -1.58, -0.01, 0.0, 0.3),
    "elbow_flex": (0.0, -0.8, -1.55, -1.6, 0.0, 0.3),
}
_CLEAR_OF_ALL = (0.0, -1.0, 0.9, 0.6, 0.0, 0.3)


@dataclass
class _Grip:
    start_rad: float
    end_rad: float
    over_s: float
    limp: bool  # the servo had no torque when the hand came: the hand lets go when torque comes on
    spent_s: float = 0.0


class Hands:
    """Hold any number of joints, each until told to let go, or until its servo is switched on under them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._grips: dict[int, _Grip] = {}
        self._sweeping = threading.Lock()
        model = world.model
        self._scale = model.dof_armature[world.dof] / ARMATURE_KG_M2
        world.each_step.append(self._step)

    def move(self, targets_rad: Mapping[str, float], over_s: float) -> None:
        """Begin to turn joints to the targets, there in over_s, and hold them."""
        unknown = sorted(set(targets_rad) - set(JOINTS))
        if unknown:
            raise ValueError(f"no joints {unknown}; the arm has {list(JOINTS)}")
        with self._world.lock:
            for name, target in targets_rad.items():
                index = JOINTS.index(name)
                servo = self._world.servos[index]
                self._grips[index] = _Grip(servo.q_rad, float(target), max(over_s, 0.01), limp=not servo.torque)

    def release(self) -> None:
        """Let go of everything."""
        with self._world.lock:
            self._grips.clear()
            self._world.data.qfrc_applied[self._world.dof] = 0.0

    def sweep(self, over_s: float) -> None:
        """Turn every joint from stop to stop, each way in over_s, and come back to a clear pose; takes its time."""
        scene = self._world.scene
        with self._sweeping:
            for index, name in enumerate(JOINTS):
                self._move_and_wait(dict(zip(JOINTS, _CLEAR.get(name, _CLEAR_OF_ALL), strict=True)), over_s)
                self._move_and_wait({name: float(scene.low_rad[index]) - BEYOND_RAD}, over_s)
                self._move_and_wait({name: float(scene.high_rad[index]) + BEYOND_RAD}, over_s)
            self._move_and_wait(dict(zip(JOINTS, _CLEAR_OF_ALL, strict=True)), over_s)

    def wait(self, over_s: float) -> None:
        """Wait until a motion of over_s is over and still."""
        time.sleep(over_s + SETTLE_S)

    def _move_and_wait(self, targets_rad: Mapping[str, float], over_s: float) -> None:
        self.move(targets_rad, over_s)
        self.wait(over_s)

    def _step(self, dt_s: float) -> None:
        data, dof = self._world.data, self._world.dof
        for index, grip in list(self._grips.items()):
            if grip.limp and self._world.servos[index].torque:
                del self._grips[index]
                data.qfrc_applied[dof[index]] = 0.0
                continue
            grip.spent_s += dt_s
            share = min(1.0, grip.spent_s / grip.over_s)
            travel = grip.end_rad - grip.start_rad
            wanted = grip.start_rad + travel * share**3 * (10 - 15 * share + 6 * share**2)
            rate = travel * 30 * share**2 * (1 - share) ** 2 / grip.over_s
            servo, scale = self._world.servos[index], self._scale[index]
            push = STIFF_NM_RAD * (wanted - servo.q_rad) + DAMP_NM_S_RAD * (rate - servo.qd_rad_s)
            weight = float(data.qfrc_bias[dof[index]])
            data.qfrc_applied[dof[index]] = float(np.clip(scale * push, -MOST_NM, MOST_NM)) + weight

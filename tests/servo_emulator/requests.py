"""What can be asked of the emulated arm over its control socket."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.servo_emulator.control import Push, Request
from tests.servo_emulator.emulator import Arm


class Requests:
    """Answers requests: a request is an object with the verb as one of its keys."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._verbs = {"truth": self._truth, "goals": self._goals, "trace": self._trace, "attach": self._attach}

    def handle(self, request: Request, push: Push) -> Request:
        """Return the answer; ValueError names what is wrong with the request."""
        verbs = [verb for verb in self._verbs if verb in request]
        if len(verbs) != 1:
            raise ValueError(f"a request has one of {sorted(self._verbs)}, got {sorted(request)}")
        return self._verbs[verbs[0]](request, push)

    def _truth(self, request: Request, push: Push) -> Request:
        """Say what is really so; {"truth": "reset"} begins sums and maxima anew afterwards."""
        arm, journal = self._arm, self._arm.journal
        with arm.world.lock:
            fastest = arm.world.fastest_rad_s.copy()
            arm.world.fastest_rad_s[:] = 0.0
        answer = {
            "joints": {s.joint: s.q_rad for s in arm.servos},
            "velocities": {s.joint: s.qd_rad_s for s in arm.servos},
            "fastest_rad_s": dict(zip((s.joint for s in arm.servos), fastest.tolist(), strict=True)),
            "torque": {s.joint: s.torque for s in arm.servos},
            "goals": {s.joint: s.goal_count for s in arm.servos},
            "present": {s.joint: s.present_count() for s in arm.servos},
            "load": {s.joint: s.load for s in arm.servos},
            "temperature_c": {s.joint: s.temperature_c for s in arm.servos},
            "goals_written": journal.written,
            "goals_outside": journal.outside,
            "goals_while_limp": journal.torque_off,
            "most_ahead_counts": dict(journal.ahead_counts),
            "last_goal_ns": journal.goals[-1].time_ns if journal.goals else None,
            "counters": dict(arm.bus.counts) | {f"fault_{k}": n for k, n in arm.faults.counts.items() if n},
            "bus_late_us": arm.bus.late_ns / 1000,
            "slipped_s": arm.world.slipped_s,
            "real_time": arm.bus.real_time,
        }
        if request["truth"] == "reset":
            journal.reset()
            arm.bus.late_ns = 0
        return answer

    def _goals(self, request: Request, push: Push) -> Request:
        """List the last goals."""
        goals = list(self._arm.journal.goals)[-int(request["goals"]) :]
        fields = ("time_ns", "joint", "id", "count", "present", "outside")
        return {"goals": [{name: getattr(goal, name) for name in fields} for goal in goals]}

    def _trace(self, request: Request, push: Push) -> Request:
        """List [monotonic ns, [rad, ...]] of the last seconds, one a physics step."""
        with self._arm.world.lock:
            trace = list(self._arm.world.trace)
        begins = trace[-1][0] - float(request["trace"]) * 1e9 if trace else 0
        return {"trace": [[t, np.round(q, 6).tolist()] for t, q in trace if t >= begins]}

    def _attach(self, request: Request, push: Push) -> Request:
        """Plug only these servos into the bus; "all" for all."""
        names: Any = request["attach"]
        known = [servo.joint for servo in self._arm.servos]
        wanted = known if names == "all" else list(names)
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(f"no joints {unknown}; the arm has {known}")
        self._arm.attached = tuple(servo for servo in self._arm.servos if servo.joint in wanted)
        return {"attached": wanted}

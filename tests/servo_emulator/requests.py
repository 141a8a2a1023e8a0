"""What can be asked of the emulated arm over its control socket."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tests.servo_emulator.calibrated import write_calibration
from tests.servo_emulator.control import Push, Request
from tests.servo_emulator.emulator import Arm
from tests.servo_emulator.faults import KINDS, PACKET_FAULTS, Fault


class Requests:
    """Answers requests: a request is an object with the verb as one of its keys."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._verbs = {
            "begin": self._begin,
            "hand": self._hand,
            "attach": self._attach,
            "fault": self._fault,
            "clear": self._clear,
            "power_cycle": self._power_cycle,
            "write_calibration": self._write_calibration,
            "truth": self._truth,
            "goals": self._goals,
            "trace": self._trace,
        }

    def handle(self, request: Request, push: Push) -> Request:
        """Return the answer; ValueError names what is wrong with the request."""
        verbs = [verb for verb in self._verbs if verb in request]
        if len(verbs) != 1:
            raise ValueError(f"a request has one of {sorted(self._verbs)}, got {sorted(request)}")
        return self._verbs[verbs[0]](request, push)

    def _begin(self, request: Request, push: Push) -> Request:
        """Lay out a scene, as a Stage."""
        begin = request["begin"]
        instruction = self._arm.stage.begin(int(begin["seed"]), str(begin["task"]), partial(_tell, push))
        self._arm.show_layout()
        return {"instruction": instruction}

    def _hand(self, request: Request, push: Push) -> Request:
        """Turn joints by hand; answered when they are there, at once with "wait": false."""
        hands, over_s = self._arm.hands, float(request.get("over_s", 1.0))
        if request["hand"] == "release":
            hands.release()
        elif request["hand"] == "sweep":
            hands.sweep(over_s)
        else:
            hands.move(request["hand"], over_s)
            if request.get("wait", True):
                hands.wait(over_s)
        return {"joints": {s.joint: s.q_rad for s in self._arm.servos}}

    def _fault(self, request: Request, push: Push) -> Request:
        """Begin a fault."""
        told = request["fault"]
        if told["kind"] not in KINDS:
            raise ValueError(f"no fault {told['kind']!r}; there are {list(KINDS)}")
        for_s = told.get("for_s")
        until = None if for_s is None else time.monotonic() + float(for_s)
        rest = {name: told[name] for name in ("share", "id", "camera", "value") if name in told}
        self._arm.faults.add(Fault(told["kind"], until=until, **rest))
        if told["kind"] not in PACKET_FAULTS:
            self._arm.faults.counts[told["kind"]] += 1
        return {"fault": told}

    def _clear(self, request: Request, push: Push) -> Request:
        """End all faults."""
        self._arm.faults.clear()
        return {"clear": True}

    def _power_cycle(self, request: Request, push: Push) -> Request:
        """Take the servos' power away and give it back."""
        self._arm.power_cycle()
        return {"power_cycle": True}

    def _write_calibration(self, request: Request, push: Push) -> Request:
        """Write the calibration file that belongs to the servos as they are."""
        write_calibration(request["write_calibration"], self._arm.options.vendor, self._arm.servos)
        return {"write_calibration": request["write_calibration"]}

    def _truth(self, request: Request, push: Push) -> Request:
        """Say what is really so; {"truth": "reset"} begins sums and maxima anew afterwards."""
        arm, journal = self._arm, self._arm.journal
        with arm.world.lock:
            fastest = arm.world.fastest_rad_s.copy()
            arm.world.fastest_rad_s[:] = 0.0
            objects = arm.stage.objects()
        answer = {
            "joints": {s.joint: s.q_rad for s in arm.servos},
            "velocities": {s.joint: s.qd_rad_s for s in arm.servos},
            "fastest_rad_s": dict(zip((s.joint for s in arm.servos), fastest.tolist(), strict=True)),
            "torque": {s.joint: s.torque for s in arm.servos},
            "goals": {s.joint: s.goal_count for s in arm.servos},
            "present": {s.joint: s.present_count() for s in arm.servos},
            "load": {s.joint: s.load for s in arm.servos},
            "temperature_c": {s.joint: s.temperature_c for s in arm.servos},
            "objects": objects,
            "success": arm.stage.outcome,
            "attached": [s.joint for s in arm.attached],
            "goals_written": journal.written,
            "goals_outside": journal.outside,
            "goals_while_limp": journal.torque_off,
            "most_ahead_counts": dict(journal.ahead_counts),
            "last_goal_ns": journal.goals[-1].time_ns if journal.goals else None,
            "counters": dict(arm.bus.counts) | {f"fault_{k}": n for k, n in arm.faults.counts.items() if n},
            "bus_late_us": _spread(arm.bus.late_ns),
            "slipped_s": arm.world.slipped_s,
            "real_time": arm.bus.real_time,
        }
        if request["truth"] == "reset":
            journal.reset()
            arm.bus.late_ns.clear()
        return answer

    def _goals(self, request: Request, push: Push) -> Request:
        """List the last goals."""
        last = int(request["goals"])
        goals = self._arm.journal.goals[-last:] if last > 0 else []
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


def _tell(push: Push, outcome: bool) -> None:
    push({"outcome": outcome})


def _spread(late_ns: Iterable[int]) -> dict[str, float]:
    late_us = np.array(list(late_ns) or [0]) / 1000
    return {f"p{p}": float(np.percentile(late_us, p)) for p in (50, 90, 99, 100)}

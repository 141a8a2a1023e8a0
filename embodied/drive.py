"""Drives a servo body tick by tick through one chunk after another; knows no clock and no thread (see realtime.py)."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from embodied.errors import ProtocolError
from embodied.safety import Servo, command, make_motion, measured_position
from embodied.stages import MOTION, RENDER, WAIT
from embodied.types import Action, Fault, Intervention, Observation, Step


@dataclass
class Chunk:
    """The actions of one step, and how far they have come."""

    waiting: deque[Action]
    frames: bool
    result: Future[Step] = field(default_factory=Future)
    asked_ns: int = field(default_factory=time.monotonic_ns)
    begun_ns: int = 0  # 0: none of them has begun
    executed: int = 0
    dropped: int = 0


class Drive:
    """One body and its motion. A chunk is answered as its last action begins; after that the body brakes and holds."""

    def __init__(self, body: Servo) -> None:
        """Drive the body under the limits of its spec; raise as make_motion where they cannot be kept."""
        self.tick_s = 1 / body.servo_hz
        self._body = body
        self._motion = make_motion(body)
        self._chunk: Chunk | None = None
        self._left = 0  # ticks of the action under way
        self._driven = self._done = False  # an episode, which may be over
        self._told = True  # its end, or that there is none
        self._last: Step | None = None  # None: no tick has come since the episode began
        self._failure: BaseException | None = None
        self._reward, self._interventions = 0.0, list[Intervention]()
        self._faults = dict[tuple[str, str], Fault]()  # since the last answer, each once

    @property
    def moving(self) -> bool:
        """Whether the body would move on by itself, if only to brake."""
        return self._motion.moving

    def begin(self, seed: int, task: str) -> Observation:
        """Begin an episode; the body is at rest."""
        self._driven, self._told = False, True
        observation = self._body.reset(seed, task)
        self._motion.begin(measured_position(self._body.spec, observation))
        self._driven, self._done, self._told, self._last, self._failure = True, False, False, None, None
        self._reward, self._interventions, self._faults = 0.0, [], {}
        return observation

    def take(self, chunk: Chunk) -> None:
        """Carry the chunk out from the next tick on; raise ProtocolError outside an episode or beside another chunk."""
        if self._told:
            raise ProtocolError("no episode is running: call reset first")
        if self._chunk is not None:
            raise ProtocolError("another step is being carried out")
        self._chunk = chunk

    def halt(self) -> None:
        """Brake from the next tick on, and drop what has not begun; the chunk is answered once the body stands."""
        self._motion.hold()
        self._left = 0
        if self._chunk is not None:
            self._chunk.dropped += len(self._chunk.waiting)
            self._chunk.waiting.clear()

    def tick(self) -> None:
        """Give the body its next setpoint; answer the chunk if that is due. What the body raises is the answer then."""
        if self._failure is not None:
            self._brake_on()
            self._answer()
            return
        try:
            if self._driven and (self._motion.moving or not self._done):
                self._advance()
            self._answer()
        except (Exception, SystemExit) as error:  # the body's own: whoever steps is told, and a reset begins anew
            self._failure = error
            self._driven = False
            self._motion.hold()
            self._answer()

    def look(self, *, frames: bool) -> Step:
        """Return a step of no ticks: what the body senses now."""
        return self._body.follow(np.empty((0, len(self._body.spec.action))), frames=frames)

    def _brake_on(self) -> None:
        """Bring a body that failed to rest, as far as it still listens."""
        if self._motion.moving:
            with contextlib.suppress(Exception, SystemExit):  # whoever steps has been told of the first
                self._body.follow(self._motion.tick()[None], frames=False)

    def _advance(self) -> None:
        self._left = max(0, self._left - 1)
        if not self._left and not self._done and self._chunk is not None and self._chunk.waiting:
            self._begin_action(self._chunk)
        step = self._body.follow(self._motion.tick()[None], frames=False)
        self._interventions += self._motion.take_interventions()
        self._note(step)
        if not self._done:
            self._last = step
            self._reward += step.reward
            self._done = step.done
            if step.done:
                self._motion.hold()

    def _begin_action(self, chunk: Chunk) -> None:
        chunk.begun_ns = chunk.begun_ns or time.monotonic_ns()
        self._interventions += command(self._motion, self._body, chunk.waiting.popleft())
        self._left = self._motion.ticks
        chunk.executed += 1

    def _answer(self) -> None:
        """Answer the chunk if the episode is over, its last action has begun, or it was halted and the body stands."""
        chunk = self._chunk
        if chunk is None:
            return
        if self._failure is not None:
            self._chunk, self._told = None, True
            chunk.result.set_exception(self._failure)
        elif self._done or not (chunk.waiting or (chunk.dropped and self._motion.moving)):
            step = self._step(chunk)
            self._chunk, self._told = None, self._done
            chunk.result.set_result(step)

    def _step(self, chunk: Chunk) -> Step:
        assert self._last is not None  # it is answered after a tick
        asked_for_ns = time.monotonic_ns()
        shown = self.look(frames=chunk.frames)
        self._note(shown)
        now_ns = time.monotonic_ns()
        begun_ns = chunk.begun_ns or asked_for_ns
        step = replace(
            self._last,
            observation=shown.observation,
            labels=shown.labels,
            reward=self._reward,
            executed=chunk.executed,
            dropped=chunk.dropped,
            interventions=tuple(self._interventions),
            faults=tuple(self._faults.values()),
            health=shown.health,
            timing_ns={
                WAIT: begun_ns - chunk.asked_ns,
                MOTION: asked_for_ns - begun_ns,
                RENDER: now_ns - asked_for_ns,
            },
        )
        self._reward, self._interventions, self._faults = 0.0, [], {}
        return step

    def _note(self, step: Step) -> None:
        """Keep what the body itself reports of a tick."""
        self._interventions += step.interventions
        self._faults |= {(fault.part, fault.kind): fault for fault in step.faults}

"""Runs a robot against the wall clock, as hardware runs: it moves, brakes and holds by itself, whoever else is late."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import TypeVar

from embodied.drive import Chunk, Drive
from embodied.errors import EmbodiedError, HardwareError, InvalidActionError, ProtocolError
from embodied.pace import Pace, Regularity
from embodied.safety import Limited, Servo, bare
from embodied.types import Action, Observation, PoseAction, Robot, RobotSpec, Step

T = TypeVar("T")

AGAIN_S = 0.05  # between two words to a body that has not stopped yet


class RealTimeRobot(Limited):
    """A Robot whose time passes: a loop thread gives the body a setpoint every tick, whether or not a command comes.

    step returns as its last action begins, so that whoever answers within a control period moves the robot without a
    pause; what comes of that action is in the next step. Where nobody answers in time the robot brakes, within its
    limits, and holds. The episode goes on meanwhile: an end that came before a step is what that step tells, carrying
    out nothing. A tick that the loop missed is left out: no setpoint is hurried.
    """

    def __init__(self, make_robot: Callable[[], Robot]) -> None:
        """Make the robot on the loop's thread: an OpenGL context works only where it was made.

        What make_robot raises comes through; raise EmbodiedError for a robot that takes no setpoints.
        """
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._asking = threading.Lock()  # so that nothing is asked of a loop that has ended
        self._closing = self._closed = False
        self._stops = 0
        made: Future[Servo] = Future()
        self._thread = threading.Thread(target=self._run, args=(make_robot, made), name="realtime", daemon=True)
        self._thread.start()
        self.body = made.result()
        self._spec = replace(self.body.spec, realtime=True)

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    @property
    def regularity(self) -> Regularity:
        """Return how well the loop has kept to its ticks so far."""
        return self._pace.regularity

    def reset(self, seed: int, task: str) -> Observation:
        """Come to rest, then begin an episode; raise UnknownNameError for a task the robot does not have.

        A stop that comes before it has begun ends it: raise HardwareError, or what the body raises then.
        """
        self._spec.require_task(task)
        stops = self._stops
        begun = self._put(lambda: self._begin(seed, task, stops))
        while not wait([begun], AGAIN_S).done:
            if self._stops != stops:
                self.body.stop()  # again, since a body that was just about to begin took no note of it
        return begun.result()

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions after those under way and return as the last one begins; otherwise as Robot.step.

        A stop drops those that have not begun, and the step returns once the robot stands.
        """
        if not actions:
            raise InvalidActionError("a step takes at least one action")
        for action in actions:
            if isinstance(action, PoseAction):
                self._spec.check_action(action)
        chunk = Chunk(deque(actions), frames)
        self._ask(lambda: self._drive.take(chunk))
        return chunk.result.result()

    def observe(self, *, frames: bool) -> Observation:
        """Return what the robot senses now, whatever it is doing."""
        return self._ask(lambda: self._drive.look(frames=frames).observation)

    def stop(self) -> None:
        """Brake from the next tick on and drop what has not begun; idempotent, safe from any thread, does not wait."""
        with self._asking:
            self._stops += 1
            if not self._closed:
                self._requests.put(lambda: self._drive.halt())
        self.body.stop()

    def close(self) -> None:
        """Come to rest, a reset that is under way too, close the body and end the loop; idempotent."""
        self._closing = True
        while self._thread.is_alive():
            self.body.stop()
            self._thread.join(AGAIN_S)

    def _ask(self, work: Callable[[], T]) -> T:
        """Run work on the loop's thread, between two ticks, and return what it returns."""
        return self._put(work).result()

    def _put(self, work: Callable[[], T]) -> Future[T]:
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:  # the loop goes on, and whoever asked is told
                result.set_exception(error)

        with self._asking:
            if self._closed:
                raise ProtocolError(f"{self._spec.name} is closed")
            self._requests.put(run)
        return result

    def _run(self, make_robot: Callable[[], Robot], made: Future[Servo]) -> None:
        try:
            body = _servo(make_robot())
            try:
                self._drive = Drive(body)
            except BaseException:
                body.close()
                raise
            self._pace = Pace(self._drive.tick_s)
        except BaseException as error:
            made.set_exception(error)
            return
        made.set_result(body)
        try:
            while not self._closing:
                self._pace.wait()
                self._attend()
                self._drive.tick()
        finally:
            self._end(body)

    def _attend(self) -> None:
        while not self._requests.empty():
            self._requests.get()()

    def _begin(self, seed: int, task: str, stops: int) -> Observation:
        self._come_to_rest()
        if self._closing or self._stops != stops:
            raise HardwareError(f"{self._spec.name} was stopped before it began")
        try:
            return self._drive.begin(seed, task)
        finally:
            self._pace.begin()

    def _come_to_rest(self) -> None:
        self._drive.halt()
        self._drive.tick()
        while self._drive.moving:
            self._pace.wait()
            self._drive.tick()

    def _end(self, body: Servo) -> None:
        with self._asking:
            self._closed = True
        self._attend()
        self._come_to_rest()
        body.close()


def _servo(robot: Robot) -> Servo:
    """Return the body inside a robot; raise EmbodiedError, saying what it lacks, where it takes no setpoints."""
    body = bare(robot)
    if robot.spec.realtime:
        raise EmbodiedError(f"{robot.spec.name} lives in real time already; host it without --realtime")
    if not isinstance(body, Servo):
        lacks = [name for name in ("servo_hz", "follow") if not hasattr(body, name)]
        raise EmbodiedError(
            f"{robot.spec.name} cannot run in real time: it takes no setpoints between commands; "
            f"a {type(body).__name__} lacks {lacks} (embodied.safety.Servo)"
        )
    return body

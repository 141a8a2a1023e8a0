"""The one thread on which a robot is made, stepped and closed: an OpenGL context works only where it was made."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from embodied.safety import safe
from embodied.types import Robot

T = TypeVar("T")

log = logging.getLogger(__name__)


class RobotThread:
    """Calls a robot on one thread, in the order asked; only stop may come from any thread."""

    def __init__(self, make_robot: Callable[[], Robot]) -> None:
        """Start the thread and make the robot on it, under its limits; what make_robot raises comes through."""
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="robot", daemon=True)
        self._thread.start()
        try:
            self.robot = self.call(lambda: safe(make_robot()))
            self.spec = self.call(lambda: self.robot.spec)
        except BaseException:
            self._end()
            raise

    def submit(self, work: Callable[[], None]) -> None:
        """Run work, which must not raise, on the thread after all that was submitted before."""
        self._work.put(work)

    def call(self, work: Callable[[], T]) -> T:
        """Run work on the thread and return what it returns."""
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)

        self.submit(run)
        return result.result()

    def close(self) -> None:
        """Close the robot and end its thread."""
        try:
            self.call(self.robot.close)
        finally:
            self._end()

    def _run(self) -> None:
        for work in iter(self._work.get, None):
            try:
                work()
            except BaseException:  # without the thread nothing could be asked of the robot any more
                log.exception("work on the robot's thread failed")

    def _end(self) -> None:
        self._work.put(None)
        self._thread.join()

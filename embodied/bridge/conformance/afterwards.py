"""Checks of what all the others leave behind: a robot that is free, and error texts that are for people."""

from __future__ import annotations

from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.describe import describe
from embodied.bridge.conformance.verdict import require

# How a traceback begins in Python, Java, Go, Rust, C# and Node.
TRACES = ("Traceback (most recent call last)", "\tat ", "goroutine ", "stack backtrace:", "\n   at ", "\n    at ")


def no_error_carries_a_traceback(bench: Bench) -> None:
    """No error text that the server sent since the first check holds a traceback."""
    for said in bench.server.said:
        for trace in TRACES:
            require(trace not in said, "words for people in every error", f"a traceback: {said[:300]!r}")


def the_robot_is_left_free(bench: Bench) -> None:
    """After everything the server answers, nobody holds the robot, and the emergency stop is not latched."""
    describe(bench)
    bench.wait_until_free()
    status = bench.status()
    require(not status.holder, "a free robot", f"that {status.holder} holds it")
    require(not status.stopped, "no latch", f"that the emergency stop is latched by {status.stopped_by}")


CHECKS = (no_error_carries_a_traceback, the_robot_is_left_free)

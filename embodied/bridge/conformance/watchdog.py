"""Checks of the watchdog: silence is taken for death after watchdog_s, and a heartbeat is a sign of life."""

from __future__ import annotations

import time

from embodied.bridge.conformance.bench import MARGIN_S, Bench
from embodied.bridge.conformance.session import step_request, wait_until
from embodied.bridge.conformance.verdict import NotApplicableError, require

LIFETIMES = 3  # of watchdog_s, that heartbeats are tried for


def a_silent_operator_loses_a_real_robot(bench: Bench) -> str:
    """Where time is real, the stream of an operator silent for watchdog_s ends with ABORTED, and it is counted."""
    if not bench.spec.realtime:
        raise NotApplicableError("the robot is simulated; the next check is for it")
    bench.needs_short_watchdog()
    before = bench.status().stalls
    session = bench.open("the silent")
    session.fall_silent()
    started = time.monotonic()
    why = f"its operator was silent for watchdog_s, {bench.spec.watchdog_s:g} s"
    ending = session.ended_by_server(bench.spec.watchdog_s + MARGIN_S, why)
    took_s = time.monotonic() - started
    require(ending.code.name == "ABORTED", "the silent operator's stream to end with ABORTED", ending)
    least_s = 0.75 * bench.spec.watchdog_s  # the last sign of life may have been one heartbeat before
    require(took_s >= least_s, f"no end before {bench.spec.watchdog_s:g} s of silence", f"one after {took_s:.2g} s")
    found = bench.status().stalls
    require(found == before + 1, f"{before + 1} stalls counted", found)
    require(bench.wait_until_free(), "a free robot after its operator fell silent", bench.status().holder)
    return f"ended {took_s:.2g} s after the last request"


def a_silent_operator_may_lose_a_simulated_robot(bench: Bench) -> None:
    """Where time is simulated, anyone may have the lease of an operator silent for watchdog_s; it is counted."""
    bench.needs_simulation("a stream that outlives silence")
    bench.needs_short_watchdog()
    before = bench.status().stalls
    silent = bench.open("the silent")
    bench.refused_open(bench.stream(bench.another()), bench.request("too early"))
    silent.fall_silent()
    counted = wait_until(lambda: bench.status().stalls == before + 1, bench.spec.watchdog_s + MARGIN_S)
    require(counted, f"{before + 1} stalls counted after {bench.spec.watchdog_s:g} s of silence", bench.status().stalls)
    bench.open("the next", bench.another())
    ending = silent.ended_by_server(MARGIN_S, "another has the lease now")
    require(ending.code.name == "ABORTED", "the silent operator's stream to end with ABORTED", ending)


def a_simulated_robot_waits_for_a_slow_operator(bench: Bench) -> None:
    """Where time is simulated, an operator who was silent goes on where nobody else took the lease."""
    bench.needs_simulation("a stream that outlives silence")
    bench.needs_short_watchdog()
    session = bench.begin("the slow")
    before = bench.status().stalls
    session.fall_silent()
    counted = wait_until(lambda: bench.status().stalls == before + 1, bench.spec.watchdog_s + MARGIN_S)
    require(counted, f"{before + 1} stalls counted after {bench.spec.watchdog_s:g} s of silence", bench.status().stalls)
    reply = session.ask(step_request(session.hold), "step")
    require(reply.step.executed == 1, "a step after the silence to be carried out", reply.step.executed)


def heartbeats_keep_the_session(bench: Bench) -> None:
    """An operator who sends nothing but heartbeats keeps the robot; they are not answered."""
    bench.needs_short_watchdog()
    before = bench.status().stalls
    session = bench.open("the patient")
    arrived = session.stream.receive(LIFETIMES * bench.spec.watchdog_s)
    require(arrived is None, "nothing in answer to heartbeats", arrived)
    found = bench.status()
    require(found.stalls == before, f"{before} stalls counted", found.stalls)
    require(found.holder == f"{bench.me} the patient", "the operator to hold the robot still", repr(found.holder))


CHECKS = (
    a_silent_operator_loses_a_real_robot,
    a_silent_operator_may_lose_a_simulated_robot,
    a_simulated_robot_waits_for_a_slow_operator,
    heartbeats_keep_the_session,
)

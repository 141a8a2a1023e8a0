"""Runs every check against one server, each by itself, and leaves the robot free and its emergency stop released."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import grpc

from embodied.bridge.conformance import (
    actions,
    afterwards,
    deadlines,
    describe,
    episode,
    faults,
    frames,
    handshake,
    lease,
    limits,
    stop,
    watch,
    watchdog,
)
from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.client import Ending, Server
from embodied.bridge.conformance.verdict import NonconformityError, NotApplicableError, Result, Verdict
from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials
from embodied.errors import EmbodiedError, UnknownNameError

Check = Callable[[Bench], str | None]  # its docstring is what must hold; it returns what else is worth knowing

GROUPS = (
    describe,
    handshake,
    episode,
    frames,
    actions,
    limits,
    faults,
    lease,
    deadlines,
    watchdog,
    stop,
    watch,
    afterwards,
)
CHECKS: tuple[Check, ...] = tuple(check for group in GROUPS for check in group.CHECKS)

# Where one of these fails there is nothing to say about those after it.
GATES: dict[Check, str] = {
    describe.answers: "the server does not say what robot it has",
    describe.ranges_are_finite: "the robot's ranges are none",
    describe.limits_fit_the_action: "the robot's limits are none",
    handshake.opens: "no session can be opened",
    episode.begins: "no episode can be begun",
}
# What says that there is no robot to check.
NO_ROBOT = {
    grpc.StatusCode.UNIMPLEMENTED: "answers, but is no robot server; is it a policy's?",
    grpc.StatusCode.UNAUTHENTICATED: "wants a token that it knows: say --token FILE",
    grpc.StatusCode.PERMISSION_DENIED: "does not let you in",
}

EVEN_SO: tuple[Check, ...] = (*describe.CHECKS, *afterwards.CHECKS)


def name_of(check: Check) -> str:
    """Return the name of a check: its group's and its own."""
    return f"{check.__module__.rpartition('.')[2]}.{check.__name__}"


def choose_checks(only: str) -> tuple[Check, ...]:
    """Return the checks of a group, or one by its full name, with those that they need; none named is all of them.

    Raise UnknownNameError where there is no such check.
    """
    groups = {group.__name__.rpartition(".")[2] for group in GROUPS}
    chosen = [check for check in CHECKS if only in (name_of(check), name_of(check).partition(".")[0])]
    if only and not chosen:
        raise UnknownNameError("check", only, "the suite", (*groups, *map(name_of, CHECKS)))
    return tuple(check for check in CHECKS if not only or check in chosen or check in GATES)


def check_robot(
    address: str,
    credentials: ClientCredentials = OPEN_CLIENT,
    *,
    checks: Sequence[Check] = CHECKS,
    motion: bool = True,
    timeout_s: float = 10.0,
) -> Iterator[Result]:
    """Yield what each of the checks of the server at address comes to, as it is made.

    Without motion, whatever could move the robot is skipped. Raise EmbodiedError if nothing that speaks gRPC answers,
    what answers is no robot server, or somebody else holds the robot or stopped it.
    """
    server = Server(address, credentials, timeout_s)
    try:
        reply = server.connect()
        if isinstance(reply, Ending) and reply.code in NO_ROBOT:
            raise EmbodiedError(f"{server.address} {NO_ROBOT[reply.code]} ({reply})")
        bench = Bench(server, motion=motion)
        bench.require_free()
        yield from _run(bench, checks)
    finally:
        server.close()


def _run(bench: Bench, checks: Sequence[Check]) -> Iterator[Result]:
    shut = ""
    for check in checks:
        if shut and check not in EVEN_SO:
            yield _result(check, "skip", shut, 0.0)
            continue
        result = _make(check, bench)
        if result.verdict == "fail" and check in GATES:
            shut = shut or GATES[check]
        yield result


def _make(check: Check, bench: Bench) -> Result:
    started = time.perf_counter()
    try:
        with bench.tidied():
            note = check(bench) or ""
        return _result(check, "pass", note, time.perf_counter() - started)
    except NonconformityError as error:
        return _result(check, "fail", str(error), time.perf_counter() - started)
    except NotApplicableError as error:
        return _result(check, "skip", str(error), time.perf_counter() - started)


def _result(check: Check, verdict: Verdict, reason: str, seconds: float) -> Result:
    return Result(name_of(check), " ".join((check.__doc__ or "").split()), verdict, reason, round(seconds, 4))

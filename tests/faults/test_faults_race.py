"""Operators that contend for the robot: exactly one has it, and what the others command is not carried out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import pytest

from tests.faults.evidence import wait_until
from tests.faults.processes import Host
from tests.faults.trials import Table
from tests.faults.wire import FORBIDDEN, alive, status, step
from tests.live_robot import sweep
from tests.raw_operator import RawOperator

RACES = 100


def race(address: str, start: Barrier, name: str) -> tuple[bool, str]:
    """Ask for control at the start; hold it until everybody knows the outcome; return whether it was won, and words."""
    with RawOperator(address) as operator:
        start.wait(10)
        try:
            won, words = operator.open(name).WhichOneof("reply") == "opened", ""
        except grpc.RpcError as refusal:
            assert refusal.code() == grpc.StatusCode.FAILED_PRECONDITION
            won, words = False, refusal.details()
        start.wait(10)
        return won, words


def test_of_two_operators_that_race_exactly_one_wins(live: Host, table: Table) -> None:
    start, winners = Barrier(2), list[int]()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(RACES):
            ada, bob = pool.map(lambda name: race(live.address, start, name), ["ada", "bob"])
            winners.append(ada[0] + bob[0])
            assert winners[-1] == 1, "both or neither have the robot"
            winner, refusal = ("ada", bob[1]) if ada[0] else ("bob", ada[1])
            assert f"held by {winner}" in refusal
            wait_until(lambda: not status(live.address).holder)
    assert status(live.address).sessions == RACES
    table.add("two operators race", "winners", winners, allowed=1)


def test_what_is_commanded_without_the_lease_is_not_carried_out(live: Host) -> None:
    with RawOperator(live.address) as first, RawOperator(live.address) as second, RawOperator(live.address) as third:
        first.begin("first", task="sweep")
        with alive(first):
            third.send(step=step(FORBIDDEN))  # it has opened nothing
            first.send(step=step(sweep(10, 0, 20)))
            live.evidence.wait_for_motion()
            assert second.begin("second", task="sweep", takeover=True).WhichOneof("reply") == "observation"
            first.send(step=step(FORBIDDEN))  # the robot was taken from it
        assert "second took the robot over" in first.ended()[1]
        with alive(second):
            reply = second.ask(step=step(sweep(10, 0, 5)))
        assert reply.step.executed == 5
        assert "must be open" in third.reply().error.message
    live.evidence.check()  # nothing forbidden


@pytest.mark.parametrize("name", ["ada\n\x1b[31m", "x" * 5000, "Ünï 🤖"])
def test_a_name_of_any_kind_is_shown_in_one_plain_line(live: Host, name: str) -> None:
    with RawOperator(live.address) as holder:
        holder.open(name)
        shown = status(live.address).holder
        assert shown and shown.isprintable() and len(shown) <= 100

"""Operators that ask for the robot at the same moment: exactly one has it, the other is told who."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import grpc

from tests.faults.evidence import wait_until
from tests.faults.processes import host
from tests.faults.trials import Table
from tests.faults.wire import status
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


def test_of_two_operators_that_race_exactly_one_wins(tmp_path: Path, table: Table) -> None:
    start, winners = Barrier(2), list[int]()
    with host(tmp_path, "--realtime") as live, ThreadPoolExecutor(2) as pool:
        for _ in range(RACES):
            ada, bob = pool.map(lambda name: race(live.address, start, name), ["ada", "bob"])
            winners.append(ada[0] + bob[0])
            assert winners[-1] == 1, "both or neither have the robot"
            winner, refusal = ("ada", bob[1]) if ada[0] else ("bob", ada[1])
            assert f"held by {winner}" in refusal
            wait_until(lambda: not status(live.address).holder)
        assert status(live.address).sessions == RACES
    table.add("two operators race", "winners", winners, allowed=1)

"""Where sessions wait for a policy: who is answered together, who is overtaken, and who is told that it is late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from embodied.bridge.batching import Batching, Beginning, Outcome, Seat, Table, Ticket, Turn
from embodied.errors import InvalidObservationError, LateError, ProtocolError
from embodied.types import PoseAction
from tests.dummy_robot import DummyRobot
from tests.gated_policy import Gate, GatedBatching, GatedPolicy
from tests.policy_contract import random_observation

SPEC = DummyRobot().spec
ROOM = 3


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@contextmanager
def table_with(gate: Gate, seats: int, *, lanes: int = 1, batching: bool = True) -> Iterator[tuple[Table, list[Seat]]]:
    """Yield a table with room for ROOM and sessions that have begun."""
    table = Table(lanes=lanes, room=ROOM)
    kind = GatedBatching if batching else GatedPolicy
    try:
        yield table, [Seat(kind(gate), begun=True) for _ in range(seats)]
    finally:
        gate.open.set()
        table.close()


def ask(table: Table, seat: Seat, say: str, *, within_s: float = np.inf, state: float = 0.0) -> Ticket:
    observation = random_observation(SPEC, 0, say)
    observation.state[0] = state
    now_ns = time.monotonic_ns()
    ticket = Ticket(now_ns, now_ns + within_s * 1e9)
    table.add(Turn(seat, observation, ticket))
    return ticket


def occupy(table: Table, gate: Gate, seat: Seat) -> Ticket:
    """Let a seat's policy act until the gate opens."""
    ticket = ask(table, seat, "first")
    assert gate.entered.acquire(timeout=10)
    return ticket


def said(outcome: Outcome) -> object:
    return outcome.result if isinstance(outcome.result, Exception) else [a.text for a in outcome.result or ()]


def test_what_waits_is_answered_in_one_pass(gate: Gate) -> None:
    with table_with(gate, 4) as (table, seats):
        tickets = [occupy(table, gate, seats[0]), *(ask(table, seats[i], f"say {i}") for i in (1, 2, 3))]
        gate.open.set()
        outcomes = [table.outcome(ticket) for ticket in tickets]
    assert gate.together == [["first"], ["say 1", "say 2", "say 3"]]
    assert [said(outcome) for outcome in outcomes] == [["first"], ["say 1"], ["say 2"], ["say 3"]]
    assert [outcome.batch for outcome in outcomes] == [1, 3, 3, 3]
    assert all(outcome.queue_ns > 0 and outcome.work_ns > 0 for outcome in outcomes)


def test_a_policy_that_is_no_batching_acts_one_at_a_time_in_the_order_asked(gate: Gate) -> None:
    with table_with(gate, 4, batching=False) as (table, seats):
        tickets = [occupy(table, gate, seats[0]), *(ask(table, seats[i], f"say {i}") for i in (3, 1, 2))]
        gate.open.set()
        for ticket in tickets:
            assert table.outcome(ticket).batch == 1
    assert gate.together == [["first"], ["say 3"], ["say 1"], ["say 2"]] and gate.most_inside == 1


def test_lanes_share_what_waits_and_work_side_by_side(gate: Gate) -> None:
    with table_with(gate, 4, lanes=2, batching=False) as (table, seats):
        tickets = [ask(table, seat, str(i)) for i, seat in enumerate(seats[:ROOM])]
        for _ in range(2):
            assert gate.entered.acquire(timeout=10)
        assert not gate.entered.acquire(timeout=0.05)  # two lanes, so two at once
        gate.open.set()
        for ticket in tickets:
            table.outcome(ticket)
    assert gate.most_inside == 2


def test_what_one_session_is_refused_is_no_other_sessions_loss(gate: Gate) -> None:
    with table_with(gate, 4) as (table, seats):
        occupy(table, gate, seats[0])
        wrong, right = ask(table, seats[1], "wrong", state=np.nan), ask(table, seats[2], "right")
        seats[3].begun = False
        early = ask(table, seats[3], "early")
        gate.open.set()
        assert isinstance(table.outcome(wrong).result, InvalidObservationError)
        assert said(table.outcome(right)) == ["right"]
        assert isinstance(table.outcome(early).result, ProtocolError)
    assert gate.together[1] == ["wrong", "right"]


def test_a_fault_of_the_policy_is_told_to_all_of_its_batch_and_the_lane_lives(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    with table_with(gate, 3) as (table, seats):
        occupy(table, gate, seats[0])
        tickets = [ask(table, seats[1], "break"), ask(table, seats[2], "with it")]
        gate.open.set()
        assert all(isinstance(table.outcome(ticket).result, ZeroDivisionError) for ticket in tickets)
        assert said(table.outcome(ask(table, seats[2], "again"))) == ["again"]
    assert caplog.text.count("Traceback") == 1


def test_a_newer_observation_overtakes_the_one_of_its_session_that_still_waits(gate: Gate) -> None:
    with table_with(gate, 2) as (table, seats):
        first, other = occupy(table, gate, seats[0]), ask(table, seats[1], "other")
        old, new = ask(table, seats[0], "old"), ask(table, seats[0], "new")
        assert isinstance(table.outcome(old).result, LateError)  # at once: the gate is closed still
        gate.open.set()
        assert [said(table.outcome(t)) for t in (first, other, new)] == [["first"], ["other"], ["new"]]


def test_an_observation_does_not_overtake_the_beginning_of_an_episode(gate: Gate) -> None:
    with table_with(gate, 1) as (table, seats):
        tickets = [occupy(table, gate, seats[0]), ask(table, seats[0], "of the old episode")]
        for instruction in ("next", ""):
            tickets.append(Ticket(time.monotonic_ns()))
            table.add(Turn(seats[0], Beginning(instruction, SPEC), tickets[-1]))
            tickets.append(ask(table, seats[0], f"of {instruction!r}"))
        gate.open.set()
        results = [said(table.outcome(ticket)) for ticket in tickets]
    assert results[:4] == [["first"], ["of the old episode"], [], ["of 'next'"]]
    assert str(results[4]) == "nothing to do" and str(results[5]).startswith("act before reset")


def test_without_room_the_stalest_of_all_is_dropped(gate: Gate) -> None:
    with table_with(gate, ROOM + 2) as (table, seats):
        occupy(table, gate, seats[0])
        tickets = [ask(table, seat, str(i)) for i, seat in enumerate(seats[1:])]
        with pytest.raises(LateError, match="the oldest of 4; 3 may wait"):
            raise table.outcome(tickets[0]).result  # type: ignore[misc]
        gate.open.set()
        assert [said(table.outcome(ticket)) for ticket in tickets[1:]] == [["1"], ["2"], ["3"]]


def test_a_deadline_that_passes_while_it_waits_is_told_then_and_the_policy_is_not_asked(gate: Gate) -> None:
    with table_with(gate, 2) as (table, seats):
        occupy(table, gate, seats[0])
        ticket = ask(table, seats[1], "late", within_s=0.05)
        outcome = table.outcome(ticket)
        with pytest.raises(LateError, match="not answered within the 50 ms"):
            raise outcome.result  # type: ignore[misc]
        assert 0.05e9 <= outcome.queue_ns < 5e9
    assert gate.together == [["first"]]


def test_a_deadline_that_passes_while_the_policy_acts_is_told_then(gate: Gate) -> None:
    with table_with(gate, 1) as (table, seats):
        ticket = ask(table, seats[0], "slow", within_s=0.05)
        assert isinstance(table.outcome(ticket).result, LateError)  # the gate is closed still
        gate.open.set()
        assert said(table.outcome(ask(table, seats[0], "next", within_s=20))) == ["next"]


def test_an_answer_that_was_ready_but_is_fetched_past_its_deadline_is_late(gate: Gate) -> None:
    gate.open.set()
    with table_with(gate, 1) as (table, seats):
        ticket = ask(table, seats[0], "soon", within_s=0.2)
        other = ask(table, Seat(seats[0].policy, begun=True), "other")
        table.outcome(other)
        while time.monotonic_ns() <= ticket.due_ns:
            time.sleep(0.01)
        assert isinstance(table.outcome(ticket).result, LateError)


def test_who_leaves_takes_nobody_along(gate: Gate) -> None:
    with table_with(gate, 3) as (table, seats):
        first = occupy(table, gate, seats[0])
        gone, stays = ask(table, seats[1], "gone"), ask(table, seats[2], "stays")
        table.leave(seats[1])
        table.leave(seats[0])  # in the middle of its own pass
        assert isinstance(table.outcome(gone).result, LateError)
        heir = ask(table, Seat(seats[0].policy, begun=True), "heir")  # the next session with the same policy
        gate.open.set()
        assert [said(table.outcome(ticket)) for ticket in (first, stays, heir)] == [["first"], ["stays"], ["heir"]]
    assert gate.together[1:] == [["stays", "heir"]]


def test_one_policy_is_never_in_two_passes_at_once(gate: Gate) -> None:
    with table_with(gate, 1, lanes=2) as (table, seats):
        occupy(table, gate, seats[0])
        ask(table, Seat(seats[0].policy, begun=True), "heir")
        assert not gate.entered.acquire(timeout=0.05)


def test_what_offers_batching_is_told_by_what_it_has(gate: Gate) -> None:
    assert isinstance(GatedBatching(gate), Batching) and not isinstance(GatedPolicy(gate), Batching)
    assert not isinstance(PoseAction(np.zeros(3, np.float32)), Batching)

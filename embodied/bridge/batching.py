"""Many sessions, few forward passes: what waits is answered together, and what is overtaken or late is told so."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, cast, runtime_checkable

from embodied.bridge.refusals import without_traceback
from embodied.errors import EmbodiedError, LateError, ProtocolError
from embodied.types import Action, Observation, Policy, RobotSpec

LONGEST_WAIT_S = threading.TIMEOUT_MAX / 2  # a deadline beyond it, of centuries, is none
PATIENCE = 0.15  # of what a forward pass takes, for others to join the next

log = logging.getLogger(__name__)


@runtime_checkable
class Batching(Policy, Protocol):
    """A policy whose sessions can share weights and forward passes; one that is no Batching acts one by one."""

    def fork(self) -> Self:
        """Return a policy for another session, not yet reset, that shares the weights."""

    @classmethod
    def act_together(
        cls, policies: Sequence[Self], observations: Sequence[Observation]
    ) -> Sequence[Sequence[Action] | EmbodiedError]:
        """Return what each policy, forks of one another, answers to its observation, or refuses it with.

        What one is refused must not keep another from its answer, and answers must be those of act but for the
        rounding of floats.
        """


@dataclass(eq=False)
class Seat:
    """One session's place at the table: a policy of its own, and whether the session has begun an episode with it."""

    policy: Policy
    begun: bool = False


@dataclass(frozen=True)
class Beginning:
    """A request for a new episode."""

    instruction: str
    spec: RobotSpec | EmbodiedError  # the robot, or why the session will not have it


@dataclass(frozen=True)
class Outcome:
    """What came of a request: actions, None for an episode begun, or the reason for neither."""

    result: Sequence[Action] | Exception | None
    queue_ns: int = 0  # until the policy began with it
    work_ns: int = 0  # of the policy
    batch: int = 0  # requests in the same forward pass


@dataclass(frozen=True, eq=False)
class Ticket:
    """What is left of a request for whoever owes the reply, once its frames are let go of."""

    heard_ns: int  # monotonic
    due_ns: float = math.inf  # monotonic; later the answer is worth nothing
    outcome: queue.SimpleQueue[Outcome] = field(default_factory=queue.SimpleQueue)

    def refuse(self, error: Exception) -> None:
        """Answer without the policy."""
        self.outcome.put(Outcome(error, queue_ns=time.monotonic_ns() - self.heard_ns))

    def late(self) -> LateError:
        """Return what it is answered with past its deadline."""
        return LateError(f"not answered within the {(self.due_ns - self.heard_ns) / 1e6:g} ms that were asked for")


@dataclass(frozen=True, eq=False)
class Turn:
    """A request that waits for its seat's policy."""

    seat: Seat
    asked: Beginning | Observation
    ticket: Ticket

    @property
    def observes(self) -> bool:
        """Whether it asks for actions."""
        return isinstance(self.asked, Observation)


class Table:
    """Where turns of all sessions wait, and the threads that take them: as many at once as one forward pass can.

    A session's turns are taken in order, one at a time. Each lane is one thread with one forward pass; more lanes than
    cores would only stand in each other's way.
    """

    def __init__(self, *, lanes: int, room: int) -> None:
        """Start the lanes; room is how many observations may wait."""
        self.dropped = 0  # observations so far that made way for others
        self._room, self._idle = room, lanes
        self._news = threading.Condition()
        self._waiting: list[Turn] = []  # as heard, oldest first
        self._acting: set[int] = set()  # ids of the policies that are at work
        self._closed = False
        self._lanes = [threading.Thread(target=self._run, name=f"policy-{i}", daemon=True) for i in range(lanes)]
        for lane in self._lanes:
            lane.start()

    @property
    def waiting(self) -> int:
        """Return how many turns wait."""
        return len(self._waiting)

    def add(self, turn: Turn) -> None:
        """Let a turn wait; an observation overtakes the one before it of its session, and for room the oldest goes."""
        with self._news:
            mine = [other for other in self._waiting if other.seat is turn.seat]
            self._waiting.append(turn)
            if turn.observes and mine and mine[-1].observes:
                self._drop(mine[-1], "a newer observation overtook it while it waited")
            observations = [other for other in self._waiting if other.observes]
            if len(observations) > self._room:
                self._drop(observations[0], f"it was the oldest of {len(observations)}; {self._room} may wait")
            self._news.notify()

    def take_at_once(self, turn: Turn) -> bool:
        """Take a turn on the calling thread, as a lane would, if it need not wait; return whether it was taken."""
        with self._news:
            if self._waiting or not self._idle or id(turn.seat.policy) in self._acting:
                return False
            self._begin([turn])
        self._answer([turn])
        self._end([turn])
        return True

    def outcome(self, ticket: Ticket) -> Outcome:
        """Wait for what comes of a request; at its deadline that is a LateError."""
        left_s = max(ticket.due_ns - time.monotonic_ns(), 0) / 1e9
        try:
            outcome = ticket.outcome.get(timeout=None if left_s > LONGEST_WAIT_S else left_s)
        except queue.Empty:
            with self._news:
                self._waiting = [turn for turn in self._waiting if turn.ticket is not ticket]
            return Outcome(ticket.late(), queue_ns=time.monotonic_ns() - ticket.heard_ns)
        if time.monotonic_ns() > ticket.due_ns:
            return replace(outcome, result=ticket.late())
        return outcome

    def leave(self, seat: Seat) -> None:
        """Take back all that a seat still waits for; whoever waits for the outcomes is told."""
        with self._news:
            for turn in [turn for turn in self._waiting if turn.seat is seat]:
                self._drop(turn, "its session is over")

    def close(self) -> None:
        """Let the lanes finish what they are at, and end them."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        for lane in self._lanes:
            lane.join()

    def _drop(self, turn: Turn, why: str) -> None:
        self._waiting.remove(turn)
        self.dropped += 1
        turn.ticket.refuse(LateError(f"the observation was dropped: {why}"))

    def _run(self) -> None:
        answered, patience_ns = 0, 0.0
        while turns := self._take(answered, patience_ns):
            started_ns = time.monotonic_ns()
            self._answer(turns)
            answered, patience_ns = len(turns), PATIENCE * (time.monotonic_ns() - started_ns)
            self._end(turns)
            turns.clear()  # and with them their frames

    def _begin(self, turns: list[Turn]) -> None:
        self._acting |= {id(turn.seat.policy) for turn in turns}
        self._idle -= 1

    def _end(self, turns: list[Turn]) -> None:
        with self._news:
            self._acting -= {id(turn.seat.policy) for turn in turns}
            self._idle += 1
            if self._waiting:
                self._news.notify()

    def _take(self, hoped: int, patience_ns: float) -> list[Turn]:
        """Wait for turns that one forward pass can answer; none once closed.

        Sessions that were answered together soon ask again, one after another: for as many as hoped the first of them
        waits a little, since a pass of its own would keep the others waiting for longer.
        """
        with self._news:
            patient_ns = time.monotonic_ns() + patience_ns
            while not self._closed:
                share = self._share()
                left_s = (patient_ns - time.monotonic_ns()) / 1e9
                if len(share) >= max(hoped, 1) or (share and (left_s <= 0 or not share[0].observes)):
                    self._waiting = [turn for turn in self._waiting if turn not in share]
                    self._begin(share)
                    self._news.notify()  # of what is left, for another lane
                    return share
                self._news.wait(left_s if share else None)
            return []

    def _share(self) -> list[Turn]:
        """Return this lane's share of what can be answered now, the rest being for the other idle ones."""
        ready = self._ready() if self._idle else []  # a turn taken at once has a lane's place, not its thread
        return ready[: math.ceil(len(ready) / max(self._idle, 1))]

    def _ready(self) -> list[Turn]:
        """Return the turns that can be answered now and together: the oldest of each session not at work."""
        first: dict[int, Turn] = {}
        for turn in self._waiting:
            first.setdefault(id(turn.seat.policy), turn)
        ready = [turn for policy, turn in first.items() if policy not in self._acting]
        if ready and ready[0].observes and isinstance(ready[0].seat.policy, Batching):
            return [turn for turn in ready if turn.observes]
        return ready[:1]

    def _answer(self, turns: list[Turn]) -> None:
        started_ns = time.monotonic_ns()
        refusals = {turn: why for turn in turns if (why := _refusal(turn, started_ns)) is not None}
        for turn, why in refusals.items():
            turn.ticket.refuse(why)
        turns = [turn for turn in turns if turn not in refusals]
        results = _results(turns)
        work_ns = time.monotonic_ns() - started_ns
        for turn, result in zip(turns, results, strict=True):
            turn.ticket.outcome.put(Outcome(result, started_ns - turn.ticket.heard_ns, work_ns, len(turns)))


def _refusal(turn: Turn, now_ns: int) -> EmbodiedError | None:
    """Return why the policy need not be asked."""
    if turn.ticket.due_ns < now_ns:
        return turn.ticket.late()
    if turn.observes and not turn.seat.begun:  # the policy may still remember an earlier session's episode
        return ProtocolError("act before reset: begin an episode first")
    return None


def _results(turns: Sequence[Turn]) -> Sequence[Sequence[Action] | Exception | None]:
    try:
        if len(turns) < 2:
            return [_result(turn) for turn in turns]
        policies = [cast(Batching, turn.seat.policy) for turn in turns]
        results = type(policies[0]).act_together(policies, [cast(Observation, turn.asked) for turn in turns])
        if len(results) != len(turns):
            raise TypeError(f"act_together returned {len(results)} answers to {len(turns)} observations")
        return results
    except EmbodiedError as error:
        return [without_traceback(error)] * len(turns)
    except (Exception, SystemExit) as error:  # the policy's own failure: the clients are told, the server lives
        log.exception("the policy failed")
        told = error if isinstance(error, Exception) else RuntimeError(f"SystemExit: {error}")
        return [without_traceback(told)] * len(turns)


def _result(turn: Turn) -> Sequence[Action] | None:
    if isinstance(turn.asked, Observation):
        actions = turn.seat.policy.act(turn.asked)
        if actions is None:  # what an Outcome says of a beginning
            raise TypeError("act returned None")
        return actions
    turn.seat.begun = False  # a refused beginning leaves no episode to go on with
    if isinstance(turn.asked.spec, EmbodiedError):
        raise turn.asked.spec
    turn.seat.policy.reset(turn.asked.instruction, turn.asked.spec)
    turn.seat.begun = True
    return None

"""The lease: one holder, silence, takeover and the emergency stop, by a clock that the test turns."""

from __future__ import annotations

import threading

import pytest

from embodied.bridge.lease import Lease, LeaseHeldError
from embodied.errors import EmergencyStopError, LateError


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lease_of(clock: Clock, *, realtime: bool = False) -> Lease[str]:
    return Lease("so101", 0.5, realtime=realtime, clock_s=clock, wall_s=lambda: 3600.0 * 9 + clock.s - 1000.0)


def test_whoever_comes_first_holds_it_and_the_next_is_told_who_and_since_when(clock: Clock) -> None:
    lease = lease_of(clock)
    assert lease.acquire("first", "anna", takeover=False) is None
    clock.s += 12.34
    lease.touch("first")
    with pytest.raises(LeaseHeldError, match=r"so101 is held by anna since 09:00:00 UTC \(12\.3 s\).*--takeover"):
        lease.acquire("second", "ben", takeover=False)
    assert lease.holds("first") and not lease.holds("second") and not lease.may_move("second")


def test_a_takeover_tells_whom_it_took_the_robot_from(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "anna", takeover=False)
    assert lease.acquire("second", "ben", takeover=True) == "first"
    assert lease.may_move("second") and not lease.may_move("first")
    with pytest.raises(LateError):
        lease.require_may_move("first")


def test_only_the_holder_can_give_it_back(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "anna", takeover=False)
    lease.acquire("second", "ben", takeover=True)
    assert not lease.release("first") and lease.status.holder == "ben"
    assert lease.release("second") and lease.status.holder == ""
    assert lease.acquire("third", "cara", takeover=False) is None


def test_silence_for_the_watchdogs_time_and_no_less_is_a_lapse_and_is_told_once(clock: Clock) -> None:
    lease = lease_of(clock)
    assert lease.lapses_in_s is None and lease.lapse() is None
    lease.acquire("first", "anna", takeover=False)
    clock.s += 0.375
    assert lease.lapse() is None and lease.lapses_in_s == 0.125
    lease.touch("first")
    clock.s += 0.375
    assert lease.lapse() is None
    clock.s += 0.125
    assert lease.lapses_in_s == 0.0
    assert lease.lapse() == "first" and lease.lapse() is None
    assert lease.lapses_in_s is None and lease.status.stalls == 1 and not lease.may_move("first")


def test_in_simulated_time_a_silent_holder_that_speaks_first_goes_on(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "anna", takeover=False)
    clock.s += 0.5
    lease.lapse()
    assert lease.touch("first") and not lease.touch("first")  # it had lapsed; it has not
    lease.require_may_move("first")
    with pytest.raises(LeaseHeldError):
        lease.acquire("second", "ben", takeover=False)


def test_in_simulated_time_a_silent_holder_makes_room_for_the_next_without_takeover(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "anna", takeover=False)
    clock.s += 0.5
    lease.lapse()
    assert lease.acquire("second", "ben", takeover=False) == "first"
    assert not lease.touch("first")  # too late
    assert not lease.may_move("first") and lease.may_move("second")


def test_in_real_time_silence_is_the_end(clock: Clock) -> None:
    lease = lease_of(clock, realtime=True)
    lease.acquire("first", "anna", takeover=False)
    clock.s += 0.5
    lease.lapse()
    assert not lease.touch("first")
    with pytest.raises(LateError, match=r"not heard for 0\.5 s"):
        lease.require_may_move("first")


def test_the_words_of_a_stranger_keep_nobody_alive(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "anna", takeover=False)
    clock.s += 0.5
    lease.touch("second")
    assert lease.lapse() == "first"


def test_the_emergency_stop_stays_latched_and_keeps_who_pressed_it_first(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "anna", takeover=False)
    lease.latch("ben")
    clock.s += 2
    lease.latch("cara")
    assert not lease.may_move("first")
    said = r"emergency stop of so101 was pressed by ben at 09:00:00 UTC \(2\.0 s ago\).*embodied stop ADDRESS --release"
    with pytest.raises(EmergencyStopError, match=said):
        lease.require_may_move("first")
    status = lease.status
    assert (status.stopped, status.stopped_by, status.stopped_s) == (True, "ben", 2.0)
    lease.unlatch()
    lease.unlatch()
    lease.require_may_move("first")
    assert not lease.status.stopped and lease.status.stopped_by == ""


def test_a_latched_robot_can_change_hands_but_not_move(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.latch("ben")
    lease.acquire("first", "anna", takeover=False)
    lease.acquire("second", "cara", takeover=True)
    with pytest.raises(EmergencyStopError):
        lease.require_may_move("second")


def test_what_happens_is_counted(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "anna", takeover=False)
    lease.acquire("second", "ben", takeover=True)
    lease.count_late(16)
    lease.count_late(1)
    lease.count_refused()
    clock.s += 3
    status = lease.status
    assert (status.sessions, status.late_actions, status.refused_requests, status.stalls) == (2, 17, 1, 0)
    assert (status.holder, status.held_s) == ("ben", 3.0)


def test_a_name_cannot_write_on_other_peoples_terminals(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.acquire("first", "\x1b[2J\nroot" + "x" * 1000, takeover=False)
    assert lease.status.holder.startswith("?[2J?root") and len(lease.status.holder) == 100


@pytest.mark.parametrize("takeover", [False, True])
def test_of_many_that_race_exactly_one_holds_it(clock: Clock, takeover: bool) -> None:
    for _ in range(50):
        lease = lease_of(clock)
        barrier, won, replaced = threading.Barrier(8), list[str](), list[str | None]()

        def race(name: str, lease=lease, barrier=barrier, won=won, replaced=replaced) -> None:
            barrier.wait()
            try:
                replaced.append(lease.acquire(name, name, takeover=takeover))
                won.append(name)
            except LeaseHeldError:
                pass

        threads = [threading.Thread(target=race, args=(f"operator {i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(lease.holds(name) for name in won) == 1
        assert len(won) == (8 if takeover else 1)
        assert len(set(replaced)) == len(replaced), "nobody was replaced twice"


def test_what_was_asked_before_the_emergency_stop_was_released_is_too_old(clock: Clock) -> None:
    lease = lease_of(clock)
    lease.unlatch()  # of nothing: nothing is too old for it
    lease.require_since_release(clock.s - 100.0)
    asked_s = clock.s
    lease.latch("ben")
    clock.s += 1.0
    lease.unlatch()
    with pytest.raises(LateError, match="before the release"):
        lease.require_since_release(asked_s)
    lease.require_since_release(clock.s)

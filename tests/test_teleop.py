"""Keys, sticks and leaders become poses: at the speed chosen, within the ranges, and nothing piles up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from embodied.approach import WHOLE_RANGE_S, approach
from embodied.errors import SpecMismatchError
from embodied.teleop.console import COMMANDS, Console
from embodied.teleop.gamepad import GamepadTeleoperator
from embodied.teleop.jog import SPEEDS, Jog
from embodied.teleop.joystick import AXIS, BUTTON, EVENT, FULL, INIT, GamepadError, Joystick
from embodied.teleop.keyboard import PRESS_S, TOOL, KeyboardTeleoperator
from embodied.teleop.keys import KeyDecoder
from embodied.teleop.kinematics import nudging
from embodied.teleop.leader import LeaderTeleoperator
from embodied.teleop.operator import Command
from embodied.types import Field, Limits, Observation, PoseAction, RobotSpec

FIELDS = (
    Field("pan", "rad", -2.0, 2.0),
    Field("lift", "rad", -1.0, 1.0),
    Field("gripper", "rad", 0.0, 1.5),
)
SPEC = RobotSpec("arm", 10.0, (), FIELDS, FIELDS, tasks=("reach",), limits=Limits((4.0,) * 3, (50.0,) * 3))
FIRST = 0.1  # the speed that a session begins with


class Typed:
    """A terminal whose keys come from the test."""

    def __init__(self) -> None:
        self.typed: list[str] = []
        self.said: list[str] = []

    def keys(self, timeout_s: float = 0.0) -> list[str]:
        typed, self.typed = self.typed, []
        return typed

    def say(self, line: str) -> None:
        self.said.append(line)


def seen(*state: float) -> Observation:
    return Observation(0, {}, np.array(state, np.float32), "reach")


def values(actions: Sequence[object]) -> np.ndarray:
    (action,) = actions
    assert isinstance(action, PoseAction)
    return action.values


@pytest.fixture
def typed() -> Typed:
    return Typed()


@pytest.fixture
def keyboard(typed: Typed) -> KeyboardTeleoperator:
    teleoperator = KeyboardTeleoperator(Console(typed))  # type: ignore[arg-type]
    teleoperator.reset("reach", SPEC)
    return teleoperator


class Follower:
    """Goes where it is told at once."""

    def __init__(self, *state: float) -> None:
        self.observation = seen(*state)

    def follow(self, teleoperator) -> np.ndarray:
        at = values(teleoperator.act(self.observation))
        self.observation = seen(*at)
        return at


@pytest.mark.parametrize(
    ("pieces", "keys"),
    [
        ([b"ax\n"], ["a", "x", "enter"]),
        ([b"\x1b[C\x1b[D\x1bOB"], ["right", "left", "down"]),
        ([b"\x1b", b"[", b"C", b"f"], ["right", "f"]),
        ([b"\x1b", b""], ["esc"]),
        ([b"\x1b[", b""], ["esc"]),
        ([b"\x1bq"], ["esc", "q"]),
        ([b"\x1b[3~ "], ["unknown", "space"]),
        ([b"\x1b[1;5C"], ["right"]),
        (["é".encode(), b"\xff"], ["é"]),
    ],
)
def test_a_terminals_bytes_are_read_as_keys_however_they_are_cut(pieces, keys):
    decoder = KeyDecoder()
    assert [key for piece in pieces for key in decoder.decode(piece)] == keys


def test_no_key_that_drives_ends_an_episode():
    driving = {*TOOL, *"zxcv-+_=", *"123456789"}
    assert not driving & set(COMMANDS)


def test_a_press_moves_its_joint_as_far_as_its_speed_says_and_then_stops(keyboard, typed):
    follower = Follower(0.0, 0.5, 0.7)
    typed.typed = ["2", "x"]
    way = [follower.follow(keyboard) for _ in range(4)]
    assert way[-1] == pytest.approx([0.0, 0.5 + FIRST * 2.0 * PRESS_S, 0.7])
    assert np.array_equal(way[-1], way[-2])


def test_a_held_key_moves_without_a_break_at_one_speed_however_often_it_repeats(keyboard, typed):
    follower = Follower(0.0, 0.0, 0.7)
    pans = []
    for repeats in (1, 3, 30, 2, 1):
        typed.typed = ["x"] * repeats
        pans.append(follower.follow(keyboard)[0])
    assert np.diff([0.0, *pans]) == pytest.approx(FIRST * 4.0 * 0.1)


def test_nothing_piles_up_behind_a_robot_that_is_slow(keyboard, typed):
    typed.typed = ["x"] * 500
    pans = [values(keyboard.act(seen(0.0, 0.0, 0.7)))[0] for _ in range(10)]
    assert pans[-1] == pytest.approx(FIRST * 4.0 * PRESS_S)


def test_the_other_way_is_taken_at_once(keyboard, typed):
    follower = Follower(0.0, 0.0, 0.7)
    typed.typed = ["x"]
    up = follower.follow(keyboard)[0]
    typed.typed = ["z"]
    assert follower.follow(keyboard)[0] < up


def test_speed_goes_up_and_down_between_its_ends(keyboard, typed):
    for key, speed in (("+", SPEEDS[-1]), ("-", SPEEDS[0])):
        keyboard.reset("reach", SPEC)
        typed.typed = [key] * 9
        follower = Follower(0.0, 0.0, 0.7)
        follower.follow(keyboard)
        typed.typed = ["x"]
        assert follower.follow(keyboard)[0] == pytest.approx(min(speed * 4.0, 4.0) * 0.1)
    assert "speed 40% of the range a second" in typed.said


def test_no_joint_leaves_its_range_or_runs_away_from_a_robot_that_is_held_up(keyboard, typed):
    for _ in range(200):
        typed.typed = ["x", "+"]
        ahead = values(keyboard.act(seen(0.0, 0.0, 0.7)))[0]
    assert ahead == pytest.approx(0.1 * 4.0)
    follower = Follower(0.0, 0.0, 0.7)
    for _ in range(200):
        typed.typed = ["x", "v"]
        pan, _, gripper = follower.follow(keyboard)
    assert (pan, gripper) == (2.0, 1.5)


def test_the_tool_goes_where_the_arrow_of_its_key_points():
    typed = Typed()

    def tool_position(rad: np.ndarray) -> np.ndarray:  # an arm of two links in a plane, that pans
        reach = 0.3 * np.cos(rad[1]) + 0.2
        return np.array([reach * np.cos(rad[0]), reach * np.sin(rad[0]), 0.3 * np.sin(rad[1])])

    keyboard = KeyboardTeleoperator(Console(typed), nudging(tool_position))  # type: ignore[arg-type]
    keyboard.reset("reach", SPEC)
    assert any("i/k" in line for line in keyboard.legend)
    for key, (axis, direction) in TOOL.items():
        if axis == 0:
            continue  # it has no joint for that
        follower = Follower(0.0, 0.3, 0.7)
        keyboard.reset("reach", SPEC)
        before = tool_position(follower.observation.state.astype(float))
        for _ in range(5):
            typed.typed = [key]
            follower.follow(keyboard)
        moved = tool_position(follower.observation.state.astype(float)) - before
        assert direction * moved[axis] > 0.01 and abs(moved[axis]) == pytest.approx(0.1 * 0.8 * 0.5, rel=0.2), key


def test_without_kinematics_tool_keys_are_not_offered_and_do_nothing(keyboard, typed):
    typed.typed = [*TOOL]
    assert values(keyboard.act(seen(0.1, 0.2, 0.7))) == pytest.approx([0.1, 0.2, 0.7])
    assert not any("i/k" in line for line in keyboard.legend)


def test_deltas_are_said_anew_each_period(typed):
    fields = tuple(Field(name, "m", -0.05, 0.05, "delta") for name in ("x", "y"))
    spec = replace(SPEC, action=fields, state=(), limits=Limits())
    keyboard = KeyboardTeleoperator(Console(typed))  # type: ignore[arg-type]
    keyboard.reset("reach", spec)
    typed.typed = ["+"] * 9 + ["x"]
    assert values(keyboard.act(seen())) == pytest.approx([0.05, 0.0])
    values(keyboard.act(seen()))
    assert values(keyboard.act(seen())) == pytest.approx([0.0, 0.0])


def test_a_robot_that_does_not_measure_what_it_is_told_cannot_be_jogged(typed):
    with pytest.raises(SpecMismatchError, match=r"action\.lift: no state field"):
        Jog().begin(replace(SPEC, state=FIELDS[:1] + FIELDS[2:]))


# -- gamepad


class Pad:
    """The writing end of a FIFO that stands for /dev/input/js0, with the kernel's own events."""

    def __init__(self, path) -> None:
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDWR)

    def event(self, kind: int, number: int, value: int) -> None:
        os.write(self.fd, EVENT.pack(0, value, kind, number))

    def stick(self, number: int, share: float) -> None:
        self.event(AXIS, number, round(share * FULL))

    def press(self, number: int) -> None:
        self.event(BUTTON, number, 1)
        self.event(BUTTON, number, 0)


@pytest.fixture
def pad(tmp_path) -> Iterator[Pad]:
    pad = Pad(tmp_path / "js0")
    yield pad
    os.close(pad.fd)


@pytest.fixture
def gamepad(pad: Pad) -> Iterator[GamepadTeleoperator]:
    teleoperator = GamepadTeleoperator(Joystick(pad.path))
    teleoperator.reset("reach", SPEC)
    yield teleoperator
    teleoperator.close()


def test_a_stick_moves_a_joint_by_how_far_it_is_pushed_and_stays_so(gamepad, pad):
    follower = Follower(0.0, 0.0, 0.7)
    pad.stick(0, 1.0)
    pans = [follower.follow(gamepad)[0] for _ in range(5)]
    assert np.diff([0.0, *pans]) == pytest.approx(FIRST * 4.0 * 0.1)
    pad.stick(0, 0.5)
    slower = follower.follow(gamepad)[0] - pans[-1]
    assert 0 < slower < 0.5 * FIRST * 4.0 * 0.1
    pad.stick(0, 0.1)  # in the middle, as far as springs are exact
    assert follower.follow(gamepad)[0] == follower.follow(gamepad)[0]


def test_triggers_move_the_gripper_and_one_not_heard_of_is_not_pulled(gamepad, pad):
    follower = Follower(0.0, 0.0, 0.7)
    assert follower.follow(gamepad)[2] == pytest.approx(0.7)
    pad.event(AXIS | INIT, 5, -FULL)
    assert follower.follow(gamepad)[2] == pytest.approx(0.7)
    pad.stick(5, 1.0)
    assert follower.follow(gamepad)[2] > 0.7
    pad.stick(5, -1.0)
    pad.event(AXIS | INIT, 2, -FULL)
    pad.stick(2, 1.0)
    before = follower.observation.state[2]
    assert follower.follow(gamepad)[2] < before


def test_buttons_are_commands_and_those_held_at_the_start_are_not(gamepad, pad):
    pad.event(BUTTON | INIT, 0, 1)
    for number in (0, 1, 2, 3, 6, 7):
        pad.press(number)
    asked = list(gamepad.commands())
    names = ["SUCCESS", "FAILURE", "RERECORD", "MARK", "STOP", "SWITCH"]
    assert asked == [Command[name] for name in names] and not gamepad.commands()


def test_an_event_cut_in_two_is_read_whole(gamepad, pad):
    follower = Follower(0.0, 0.0, 0.7)
    event = EVENT.pack(0, FULL, AXIS, 0)
    os.write(pad.fd, event[:3])
    assert follower.follow(gamepad)[0] == 0.0
    os.write(pad.fd, event[3:])
    assert follower.follow(gamepad)[0] > 0.0


def test_a_gamepad_that_is_not_there_or_goes_away_is_named(tmp_path):
    with pytest.raises(GamepadError, match=r"no gamepad at .*js9.*--gamepad"):
        Joystick(tmp_path / "js9")
    pad = Pad(tmp_path / "js0")
    with Joystick(pad.path) as joystick:
        os.close(pad.fd)
        with pytest.raises(GamepadError, match=r"the gamepad at .*js0 is gone"):
            joystick.pressed()


# -- leader


class Hand:
    """A leader arm that stands where the test says."""

    names = ("gripper", "pan", "lift", "extra")

    def __init__(self, **rad: float) -> None:
        self.rad = {"extra": 0.0, **rad}

    def read(self) -> Mapping[str, float]:
        return self.rad

    def close(self) -> None:
        pass


def test_the_follower_comes_slowly_to_the_leader_then_goes_where_it_goes(typed):
    hand = Hand(pan=1.0, lift=-0.5, gripper=0.2)
    leader = LeaderTeleoperator(hand, Console(typed))  # type: ignore[arg-type]
    leader.reset("reach", SPEC)
    follower = Follower(-1.0, 0.5, 1.0)
    way = [np.array([-1.0, 0.5, 1.0])]
    while not leader.ready:
        way.append(follower.follow(leader))
        assert len(way) < 200
    steps = np.abs(np.diff(way, axis=0))
    assert (steps <= np.array([4.0, 2.0, 1.5]) / (WHOLE_RANGE_S * 10.0) + 1e-6).all()
    assert len(typed.said) == 2 and "slowly" in typed.said[0] and "there" in typed.said[1]
    hand.rad |= {"pan": -1.9, "lift": 0.9}
    assert follower.follow(leader) == pytest.approx([-1.9, 0.9, 0.2])


def test_a_leader_beyond_the_followers_range_means_its_end(typed):
    leader = LeaderTeleoperator(Hand(pan=2.3, lift=0.0, gripper=-0.1), Console(typed))  # type: ignore[arg-type]
    leader.reset("reach", SPEC)
    follower = Follower(1.99, 0.0, 0.0)
    assert follower.follow(leader) == pytest.approx([2.0, 0.0, 0.0])


def test_a_leader_that_was_moved_wants_to_take_over_and_one_that_trembles_does_not(typed):
    hand = Hand(pan=0.0, lift=0.0, gripper=0.5)
    leader = LeaderTeleoperator(hand, Console(typed))  # type: ignore[arg-type]
    leader.reset("reach", SPEC)
    assert not leader.reaching
    hand.rad["pan"] = 0.05
    assert not leader.reaching
    hand.rad["pan"] = 0.2
    assert leader.reaching
    leader.reset("reach", SPEC)
    assert not leader.reaching


def test_a_follower_with_joints_that_the_leader_has_not_is_refused(typed):
    leader = LeaderTeleoperator(Hand(), Console(typed))  # type: ignore[arg-type]
    fields = (*FIELDS, Field("wrist", "rad", -1.0, 1.0))
    with pytest.raises(SpecMismatchError, match=r"action\.wrist: absolute rad; the leader has"):
        leader.reset("reach", replace(SPEC, action=fields, state=fields, limits=Limits()))


def test_the_way_to_a_pose_is_straight_slow_and_ends_there():
    at, goal = np.array([-1.0, 0.5, 1.0]), np.array([1.5, 0.0, 0.2])
    way = np.array([at, *(action.values for action in approach(SPEC, at, goal))])
    assert way[-1] == pytest.approx(goal)
    shares = (way - at) / (goal - at)
    assert np.ptp(shares, axis=1).max() < 1e-5 and (np.diff(shares[:, 0]) > 0).all()
    assert len(way) - 1 == pytest.approx(2.5 / 4.0 * WHOLE_RANGE_S * 10.0, abs=1)
    assert [*approach(SPEC, goal, goal)] == []

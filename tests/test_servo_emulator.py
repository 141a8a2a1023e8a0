"""The emulated Feetech arm behaves as the servos' tables say, heard through the vendor's unmodified SDK."""

import json
import os
import socket
import termios
import time

import numpy as np
import pytest
import scservo_sdk
from serial import SerialException

from envs.scene import JOINTS, TICK_S, Scene
from tests.servo_emulator.process import Emulator

GOOD = scservo_sdk.COMM_SUCCESS
TORQUE, GOAL, LOCK, PRESENT, LIMITS, HOMING = 40, 42, 55, 56, 9, 31
IDS = range(1, 7)
BYTE_S = 10e-6
COUNTS_A_RAD = 4096 / (2 * np.pi)


class Driver:
    """The SDK, with the retries that a pseudo-terminal on a busy machine needs."""

    def __init__(self, port: str) -> None:
        self.packets = scservo_sdk.PacketHandler(0)
        self.open(port)

    def open(self, port: str) -> None:
        """Open a port, at the servos' rate."""
        self.port = scservo_sdk.PortHandler(port)
        assert self.port.openPort()

    def write(self, id_: int, address: int, value: int, size: int = 1) -> None:
        """Write a register."""
        write = {1: self.packets.write1ByteTxRx, 2: self.packets.write2ByteTxRx}[size]
        self._insist(lambda: write(self.port, id_, address, value))

    def read(self, id_: int, address: int, size: int = 1) -> int:
        """Return a register."""
        read = {1: self.packets.read1ByteTxRx, 2: self.packets.read2ByteTxRx}[size]
        return self._insist(lambda: read(self.port, id_, address)[:2][::-1])[1]

    def alarms(self, id_: int) -> int:
        """Return the status byte of a servo's answer."""
        return self._insist(lambda: self.packets.read1ByteTxRx(self.port, id_, 5)[1:])[1]

    def _insist(self, ask):
        """Return (result, ...) of the first try that is answered; what comes late is not the next one's answer."""
        for _ in range(5):
            answer = ask()
            if answer[0] == GOOD:
                return answer
            time.sleep(0.05)
            self.port.ser.reset_input_buffer()
        raise AssertionError(f"no answer: {answer[0]}")

    def ping(self, id_: int) -> bool:
        """Return whether a servo answers, of two tries."""
        for _ in range(2):
            if self.packets.ping(self.port, id_)[1] == GOOD:
                return True
            time.sleep(0.02)
            self.port.ser.reset_input_buffer()
        return False

    def write_goals(self, counts: list[int]) -> None:
        """Write all goals at once."""
        group = scservo_sdk.GroupSyncWrite(self.port, self.packets, GOAL, 2)
        for id_, count in zip(IDS, counts, strict=True):
            group.addParam(id_, [count & 255, count >> 8])
        assert group.txPacket() == GOOD

    def hold(self) -> None:
        """Switch every servo on where it stands."""
        for id_ in IDS:
            self.write(id_, GOAL, self.read(id_, PRESENT, 2), 2)
            self.write(id_, TORQUE, 1)


@pytest.fixture(scope="module")
def powered():
    with Emulator(seed=3, no_cameras=True) as arm:
        yield arm, Driver(arm.port)


@pytest.fixture
def bench(powered):
    """The arm as it is after power-on: limp, nothing wrong, no hand on it."""
    arm, driver = powered
    for request in ({"clear": True}, {"hand": "release"}, {"attach": "all"}, {"power_cycle": True}, {"truth": "reset"}):
        arm.ask(request)
    return arm, driver


def until(condition, timeout_s: float = 10.0):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to be so"
        time.sleep(0.02)
    return value


# -- registers


def test_six_servos_answer_with_their_model_and_a_seventh_does_not(bench):
    _, driver = bench
    assert [driver.packets.ping(driver.port, id_)[0] for id_ in IDS] == [777] * 6
    assert not driver.ping(7)


def test_what_is_written_to_the_eeprom_outlives_the_power_only_if_it_was_unlocked(bench):
    arm, driver = bench
    driver.write(2, LIMITS, 900, 2)
    assert driver.read(2, LIMITS, 2) == 900
    arm.ask({"power_cycle": True})
    assert driver.read(2, LIMITS, 2) != 900
    factory = driver.read(2, LIMITS, 2)
    for value in (900, factory):
        driver.write(2, LOCK, 0)
        driver.write(2, LIMITS, value, 2)
        arm.ask({"power_cycle": True})
        assert driver.read(2, LOCK) == 1
        assert driver.read(2, LIMITS, 2) == value


def test_a_homing_offset_is_sign_and_magnitude_and_is_subtracted(bench):
    _, driver = bench
    before, offset = driver.read(1, PRESENT, 2), driver.read(1, HOMING, 2)
    actual = (before + (-(offset & 0x7FF) if offset & 0x800 else offset)) % 4096
    driver.write(1, HOMING, 0x800 | 100, 2)
    assert driver.read(1, PRESENT, 2) == pytest.approx((actual + 100) % 4096, abs=1)
    driver.write(1, HOMING, 100, 2)
    assert driver.read(1, PRESENT, 2) == pytest.approx((actual - 100) % 4096, abs=1)


def test_what_may_not_be_written_stays_as_it_is(bench):
    _, driver = bench
    driver.write(1, 3, 5, 2)  # the model
    assert driver.read(1, 3, 2) == 777
    driver.write(1, 5, 254)  # an id that is everybody's
    assert driver.read(1, 5) == 1


def test_the_middle_is_where_128_is_written_to_the_torque_switch(bench):
    arm, driver = bench
    arm.ask({"hand": {"wrist_roll": 0.7}, "over_s": 0.2})
    saved = driver.read(5, HOMING, 2)
    driver.write(5, TORQUE, 128)
    assert driver.read(5, PRESENT, 2) == pytest.approx(2048, abs=2)
    driver.write(5, LOCK, 0)
    driver.write(5, HOMING, saved, 2)


# -- motion


def test_a_limp_servo_goes_nowhere_and_a_goal_beyond_its_limits_is_cut_and_told(bench):
    arm, driver = bench
    low = driver.read(2, LIMITS, 2)
    driver.write(2, GOAL, low - 200, 2)
    truth = arm.truth()
    assert truth["goals"]["shoulder_lift"] == low
    assert (truth["goals_written"], truth["goals_outside"], truth["goals_while_limp"]) == (1, 1, 1)
    assert arm.ask({"goals": 1})["goals"][0]["count"] == low - 200
    assert truth["joints"]["shoulder_lift"] == pytest.approx(-1.74, abs=0.02)


def test_a_servo_moves_no_faster_than_its_speed_register_says(bench):
    arm, driver = bench
    driver.hold()
    driver.write(1, 46, 500, 2)  # counts a second
    arm.ask({"truth": "reset"})
    driver.write(1, GOAL, 2448, 2)
    until(lambda: abs(driver.read(1, PRESENT, 2) - 2448) <= 2)
    pan = [(t, q[0] * COUNTS_A_RAD) for t, q in arm.ask({"trace": 5.0})["trace"]]
    (began, low), (ended, high) = (next(point for point in pan if point[1] > count) for count in (100, 300))
    assert (high - low) / (ended - began) * 1e9 == pytest.approx(500, rel=0.05)
    assert arm.truth()["most_ahead_counts"]["shoulder_pan"] == pytest.approx(400, abs=2)


def test_torque_moves_a_joint_to_a_goal_that_was_written_before_it_came_on(bench):
    arm, driver = bench
    driver.write(1, GOAL, 2148, 2)
    driver.write(1, TORQUE, 1)
    until(lambda: abs(driver.read(1, PRESENT, 2) - 2148) <= 2)
    assert arm.truth()["torque"] == {name: name == "shoulder_pan" for name in JOINTS}


def test_setpoints_move_the_arm_as_they_move_the_simulators(bench):
    arm, driver = bench
    driver.hold()
    start, scene = np.array(list(arm.truth()["joints"].values())), Scene()
    scene.park_all()
    scene.data.qpos[scene._joint_qpos] = scene._ctrl[:] = start
    goal = np.array([0.5, -1.0, 0.9, 1.2, 0.4, 0.8])
    simulated, measured = [], []
    deadline = time.monotonic()
    for tick in range(1, 61):
        setpoint = start + (goal - start) * (1 - np.cos(np.pi * tick / 60)) / 2
        driver.write_goals([round(2048 + q * COUNTS_A_RAD) for q in setpoint])
        scene.advance(setpoint)
        deadline += TICK_S
        time.sleep(max(0.0, deadline - time.monotonic()))
        simulated.append(scene.arm_rad)
        measured.append(list(arm.truth()["joints"].values()))
    assert np.abs(np.array(simulated) - measured).max() < 0.15  # the sixth of a second that a busy machine may lose
    until(lambda: np.abs(list(arm.truth()["joints"].values()) - goal).max() < 0.01)


def test_a_hand_turns_a_limp_joint_from_stop_to_stop_and_lets_go_when_torque_comes_on(bench):
    arm, driver = bench
    arm.ask({"hand": {"gripper": -0.2}, "over_s": 0.2})
    assert driver.read(6, PRESENT, 2) == pytest.approx(2048 - 0.1745 * COUNTS_A_RAD, abs=8)
    arm.ask({"hand": {"gripper": 1.8}, "over_s": 0.2})
    assert driver.read(6, PRESENT, 2) == pytest.approx(2048 + 1.7453 * COUNTS_A_RAD, abs=8)
    driver.write(6, GOAL, 2500, 2)
    driver.write(6, TORQUE, 1)
    until(lambda: abs(driver.read(6, PRESENT, 2) - 2500) <= 2)


def test_a_servo_strains_against_a_hand_that_holds_it(bench):
    arm, driver = bench
    arm.ask({"hand": {"shoulder_pan": 0.0}, "over_s": 0.2})
    driver.hold()
    arm.ask({"hand": {"shoulder_pan": 0.5}, "over_s": 0.3})
    assert arm.truth()["joints"]["shoulder_pan"] == pytest.approx(0.5, abs=0.05)
    load = driver.read(1, 60, 2)
    assert load & 0x400 and load & 0x3FF > 900  # it pulls back with all it has
    arm.ask({"hand": "release"})
    until(lambda: abs(arm.truth()["joints"]["shoulder_pan"]) < 0.01)


# -- the wire


def test_no_reply_is_there_before_the_wire_could_have_carried_it_nor_long_after(bench):
    _, driver = bench
    group = scservo_sdk.GroupSyncRead(driver.port, driver.packets, PRESENT, 8)
    for id_ in IDS:
        group.addParam(id_)
    took_s = []
    for _ in range(150):
        began = time.monotonic()
        good = group.txRxPacket() == GOOD
        took_s += [time.monotonic() - began] if good else []
    wire_s = (8 + 6 + 6 * (6 + 8)) * BYTE_S
    assert min(took_s) >= wire_s
    assert min(took_s) < 1.5 * wire_s
    for id_ in IDS:
        driver.write(id_, 7, 250)  # 2 µs each
    began = time.monotonic()
    while group.txRxPacket() != GOOD:
        began = time.monotonic()
    assert time.monotonic() - began >= wire_s + 6 * 500e-6


def test_a_driver_at_another_rate_than_the_servos_hears_nothing(bench):
    arm, driver = bench
    try:
        assert driver.port.setBaudRate(115_200)
        assert not driver.ping(1)
        assert arm.truth()["counters"]["unheard"] > 0
        driver.port.setBaudRate(1_000_000)
        driver.packets.write1ByteTxRx(driver.port, 1, 6, 4)  # 115 200, from now on
        assert not driver.ping(1)
        driver.port.setBaudRate(115_200)
        assert driver.ping(1)
        assert not driver.ping(2)
    finally:
        driver.port.setBaudRate(1_000_000)


def test_servos_from_the_box_all_talk_at_once_until_each_has_its_own_id():
    with Emulator(state="fresh", no_cameras=True) as arm:
        driver = Driver(arm.port)
        assert not driver.ping(1)
        assert arm.truth()["counters"]["collisions"] > 0
        arm.ask({"attach": ["gripper"]})
        assert driver.ping(1)
        driver.write(1, LOCK, 0)
        driver.packets.write1ByteTxRx(driver.port, 1, 5, 6)
        assert driver.ping(6)
        assert driver.read(6, 7) == 250
        arm.ask({"attach": ["gripper", "elbow_flex"]})
        assert driver.ping(1) and driver.ping(6)


def test_a_port_that_is_unplugged_is_gone_and_comes_back(bench):
    arm, driver = bench
    arm.ask({"fault": {"kind": "unplugged"}})
    until(lambda: not os.path.exists(arm.port))
    with pytest.raises((OSError, SerialException, termios.error)):
        for _ in range(100):
            driver.packets.ping(driver.port, 1)
    arm.ask({"clear": True})
    until(lambda: os.path.exists(arm.port))
    driver.open(arm.port)
    assert driver.ping(1)


# -- faults


@pytest.mark.parametrize("kind", ["dropped", "corrupted", "truncated"])
def test_packets_that_are_lost_or_spoilt_are_counted_and_never_taken_for_good(bench, kind):
    arm, driver = bench
    before = arm.truth()["counters"].get(f"fault_{kind}", 0)
    arm.ask({"fault": {"kind": kind, "share": 0.3}})
    answers = [driver.packets.read2ByteTxRx(driver.port, 3, 3) for _ in range(40)]
    arm.ask({"clear": True})
    struck = arm.truth()["counters"][f"fault_{kind}"] - before
    failed = [result for _, result, _ in answers if result != GOOD]
    assert all(value == 777 for value, result, _ in answers if result == GOOD)
    assert 0 < struck <= len(failed) + 5  # the driver may have come through to two faults at once
    assert len(failed) >= struck // 2


def test_an_adapter_can_echo_what_is_sent(bench):
    arm, driver = bench
    arm.ask({"fault": {"kind": "echoed"}})
    request = bytes([0xFF, 0xFF, 1, 2, 1, 0xFB])
    driver.port.ser.write(request)
    driver.port.ser.timeout = 2.0
    assert driver.port.ser.read(12) == request + bytes([0xFF, 0xFF, 1, 2, 0, 0xFC])
    driver.port.ser.timeout = 0


def test_a_dead_servo_is_silent_among_the_others(bench):
    arm, driver = bench
    arm.ask({"fault": {"kind": "dead", "id": 4}})
    assert [driver.ping(id_) for id_ in IDS] == [True, True, True, False, True, True]
    arm.ask({"fault": {"kind": "wrong_baud", "id": 2}})
    assert not driver.ping(2)


def test_a_fault_ends_when_its_time_is_up(bench):
    arm, driver = bench
    arm.ask({"fault": {"kind": "dead", "id": 4, "for_s": 0.2}})
    until(lambda: driver.ping(4))


def test_an_overload_that_lasts_leaves_a_fifth_of_the_torque_until_torque_is_set_again(bench):
    arm, driver = bench
    arm.ask({"hand": {"shoulder_pan": 0.0}, "over_s": 0.2})
    driver.hold()
    driver.write(1, 35, 20)  # protection time, 10 ms each
    arm.ask({"fault": {"kind": "overload", "id": 1}})
    until(lambda: driver.alarms(1) == 32)
    arm.ask({"clear": True})
    arm.ask({"hand": {"shoulder_pan": 0.4}, "over_s": 0.3})
    assert abs(arm.truth()["load"]["shoulder_pan"]) == pytest.approx(0.2, abs=0.01)
    arm.ask({"hand": "release"})
    assert driver.alarms(1) == 32
    driver.write(1, TORQUE, 1)
    assert driver.alarms(1) == 0


def test_an_overheated_servo_goes_limp_and_a_sagging_supply_is_only_told(bench):
    arm, driver = bench
    driver.hold()
    arm.ask({"fault": {"kind": "voltage"}})
    until(lambda: driver.alarms(2) == 1)
    assert arm.truth()["torque"]["shoulder_lift"]
    assert driver.read(2, 62) == 36
    arm.ask({"clear": True})
    arm.ask({"fault": {"kind": "overheat", "id": 2, "value": 75}})
    until(lambda: driver.alarms(2) == 4)
    assert driver.read(2, 63) == 75
    assert not arm.truth()["torque"]["shoulder_lift"]
    assert arm.truth()["torque"]["elbow_flex"]


# -- control


def test_a_bad_request_is_answered_with_what_is_wrong(bench):
    arm, _ = bench
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(arm.control)
        lines = control.makefile("rw")
        for request, said in (
            ('{"fault": {"kind": "bent"}}', "corrupted"),
            ('{"attach": ["tail"]}', "gripper"),
            ('{"begin": {"seed": 1, "task": "juggle"}}', "pick_place"),
            ("what", "JSON"),
            ("{}", "truth"),
        ):
            lines.write(request + "\n")
            lines.flush()
            assert said in json.loads(lines.readline())["error"]

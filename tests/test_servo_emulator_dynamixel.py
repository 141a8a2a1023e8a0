"""The emulated Dynamixel arm behaves as ROBOTIS' e-manual says, heard through the vendor's unmodified SDK."""

import time

import dynamixel_sdk
import pytest

from tests.servo_emulator.process import Emulator
from tests.servo_emulator.protocol2 import crc16

GOOD = dynamixel_sdk.COMM_SUCCESS
MODE, HOMING, LIMIT, SHUTDOWN, TORQUE, ERROR, WATCHDOG, PWM, GOAL, PRESENT = 11, 20, 52, 63, 64, 70, 98, 100, 116, 132
RANGE, LENGTH, LIMITED, ACCESS, ALERT = 4, 5, 6, 7, 0x80
MODELS = [1060, 1060, 1200, 1200, 1200, 1200]
IDS = range(1, 7)
BYTE_S = 10e-6


class Driver:
    """The SDK, with the retries that a pseudo-terminal on a busy machine needs."""

    def __init__(self, port: str) -> None:
        self.port, self.packets = dynamixel_sdk.PortHandler(port), dynamixel_sdk.PacketHandler(2.0)
        assert self.port.openPort() and self.port.setBaudRate(1_000_000)

    def write(self, id_: int, address: int, value: int, size: int = 1) -> int:
        """Write a register and return the answer's error."""
        write = {1: self.packets.write1ByteTxRx, 2: self.packets.write2ByteTxRx, 4: self.packets.write4ByteTxRx}[size]
        return self._insist(lambda: write(self.port, id_, address, value))[1]

    def read(self, id_: int, address: int, size: int = 1) -> int:
        """Return a register, signed."""
        read = {1: self.packets.read1ByteTxRx, 2: self.packets.read2ByteTxRx, 4: self.packets.read4ByteTxRx}[size]
        value = self._insist(lambda: read(self.port, id_, address)[:2][::-1])[1]
        return value - (1 << 8 * size) if value >> (8 * size - 1) else value

    def error(self, id_: int) -> int:
        """Return the error field of a ping's answer."""
        return self._insist(lambda: self.packets.ping(self.port, id_)[1:])[1]

    def _insist(self, ask):
        for _ in range(5):
            answer = ask()
            if answer[0] == GOOD:
                return answer
            time.sleep(0.05)
        raise AssertionError(f"no answer: {answer[0]}")


@pytest.fixture(scope="module")
def powered():
    with Emulator(vendor="dynamixel", seed=3, no_cameras=True) as arm:
        yield arm, Driver(arm.port)


@pytest.fixture
def bench(powered):
    arm, driver = powered
    for request in ({"clear": True}, {"hand": "release"}, {"power_cycle": True}, {"truth": "reset"}):
        arm.ask(request)
    return arm, driver


def until(condition, timeout_s: float = 10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be so"
        time.sleep(0.02)


def test_the_check_word_is_that_of_the_manuals_examples():
    assert crc16(bytes.fromhex("fffffd0001030001")) == 0x4E19
    assert crc16(bytes.fromhex("fffffd0001080055 00a6000000")) == 0xC08C


def test_the_servos_of_a_koch_answer_one_by_one_and_all_to_a_broadcast(bench):
    _, driver = bench
    assert [driver.packets.ping(driver.port, id_)[0] for id_ in IDS] == MODELS
    found, result = driver.packets.broadcastPing(driver.port)
    assert result == GOOD
    assert {id_: model for id_, (model, _) in found.items()} == dict(zip(IDS, MODELS, strict=True))


def test_the_header_inside_a_packet_is_stuffed_both_ways(bench):
    _, driver = bench
    value = int.from_bytes(b"\xff\xff\xfd\xff", "little", signed=True)
    before = driver.read(1, HOMING, 4)
    assert driver.write(1, HOMING, value & 0xFFFFFFFF, 4) == 0
    assert driver.read(1, HOMING, 4) == value
    assert driver.write(1, HOMING, before & 0xFFFFFFFF, 4) == 0


def test_a_homing_offset_is_added_and_ignored_in_position_mode_beyond_a_quarter_turn(bench):
    _, driver = bench
    offset, present = driver.read(5, HOMING, 4), driver.read(5, PRESENT, 4)
    driver.write(5, HOMING, offset + 50, 4)
    assert driver.read(5, PRESENT, 4) == pytest.approx(present + 50, abs=1)
    driver.write(5, HOMING, 1100, 4)
    assert driver.read(5, PRESENT, 4) == pytest.approx(present - offset, abs=1)
    driver.write(5, MODE, 4)
    assert driver.read(5, PRESENT, 4) == pytest.approx(present - offset + 1100, abs=1)
    driver.write(5, MODE, 3)
    driver.write(5, HOMING, offset & 0xFFFFFFFF, 4)


def test_what_may_not_be_written_is_refused_with_the_manuals_numbers(bench):
    _, driver = bench
    assert driver.write(1, 0, 5, 2) == ACCESS  # the model
    assert driver.write(1, GOAL, 5, 2) == LENGTH
    assert driver.write(1, 31, 101) == RANGE
    assert driver.write(1, GOAL, driver.read(1, LIMIT, 4) - 1, 4) == LIMITED
    assert driver.write(1, PWM, 900, 2) == LIMITED
    driver.write(1, TORQUE, 1)
    assert driver.write(1, HOMING, 0, 4) == ACCESS  # the EEPROM is locked while torque is on
    assert driver.write(1, TORQUE, 0) == 0


def test_torque_holds_where_it_comes_on_and_then_goals_move_the_joint(bench):
    arm, driver = bench
    driver.write(1, GOAL, 2300, 4)
    present = driver.read(1, PRESENT, 4)
    driver.write(1, TORQUE, 1)
    time.sleep(0.2)
    assert driver.read(1, PRESENT, 4) == pytest.approx(present, abs=2)
    assert driver.read(1, GOAL, 4) == pytest.approx(present, abs=2)
    driver.write(1, GOAL, 2300, 4)
    until(lambda: abs(driver.read(1, PRESENT, 4) - 2300) <= 2)
    assert arm.truth()["goals_while_limp"] == 1


def test_a_write_that_is_registered_waits_for_the_action(bench):
    _, driver = bench
    driver.packets.regWriteTxRx(driver.port, 1, 65, 1, [1])
    assert driver.read(1, 65) == 0
    assert driver.read(1, 69) == 1
    driver.packets.action(driver.port, 0xFE)
    until(lambda: driver.read(1, 65) == 1)


def test_a_servo_whose_bus_falls_silent_stops_and_takes_no_goal_until_that_is_cleared(bench):
    arm, driver = bench
    driver.write(1, 112, 20, 4)  # slowly
    driver.write(1, TORQUE, 1)
    driver.write(1, WATCHDOG, 10)  # 0.2 s
    start = arm.truth()["joints"]["shoulder_pan"]
    low = arm.truth()["present"]["shoulder_pan"] > 2048
    driver.write(1, GOAL, 1200 if low else 2900, 4)
    time.sleep(0.6)
    stopped = arm.truth()["joints"]["shoulder_pan"]
    assert 0 < abs(stopped - start) < 0.4
    assert abs(arm.truth()["velocities"]["shoulder_pan"]) < 0.01
    assert driver.read(1, WATCHDOG) == -1
    assert driver.write(1, GOAL, 2048, 4) == RANGE
    assert driver.write(1, WATCHDOG, 0) == 0
    assert driver.write(1, GOAL, 2048, 4) == 0


def test_a_servo_that_shut_down_stays_limp_until_it_is_rebooted(bench):
    arm, driver = bench
    driver.write(4, TORQUE, 1)
    arm.ask({"fault": {"kind": "overheat", "id": 4}})
    until(lambda: driver.error(4) == ALERT)
    assert driver.read(4, ERROR) == 4
    arm.ask({"clear": True})
    driver.write(4, TORQUE, 1)
    assert not arm.truth()["torque"]["wrist_flex"]
    until(lambda: arm.truth()["temperature_c"]["wrist_flex"] < 85)
    driver.write(4, 31, 100)  # it is still hot
    driver.packets.reboot(driver.port, 4)
    until(lambda: driver.error(4) == 0)
    driver.write(4, TORQUE, 1)
    assert arm.truth()["torque"]["wrist_flex"]


def test_voltage_shuts_down_only_the_servos_that_are_told_to(bench):
    arm, driver = bench
    arm.ask({"fault": {"kind": "voltage"}})
    until(lambda: driver.error(3) == ALERT)  # XL330: shutdown is 53 from the factory, XL430: 52
    assert driver.error(1) == 0


def test_replies_take_the_wires_time(bench):
    _, driver = bench
    group = dynamixel_sdk.GroupSyncRead(driver.port, driver.packets, 126, 21)
    for id_ in IDS:
        group.addParam(id_)
    took_s = []
    for _ in range(60):
        began = time.monotonic()
        good = group.txRxPacket() == GOOD
        took_s += [time.monotonic() - began] if good else []
    wire_s = (14 + 6 + 6 * (11 + 21)) * BYTE_S
    assert wire_s <= min(took_s) < 1.5 * wire_s


def test_servos_from_the_box_listen_at_57600_and_share_one_id():
    with Emulator(vendor="dynamixel", state="fresh", no_cameras=True) as arm:
        driver = Driver(arm.port)
        arm.ask({"attach": ["gripper"]})
        assert driver.packets.ping(driver.port, 1)[1] != GOOD
        driver.port.setBaudRate(57_600)
        assert driver.error(1) == 0
        driver.write(1, 7, 6)
        assert driver.error(6) == 0

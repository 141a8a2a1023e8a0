"""A servo bus over a pty, both vendors: what is wrong on the wire is retried and counted, and never a position."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import UnknownNameError
from embodied.hardware.bus import LOST_AFTER, LOST_S, Bus, BusLostError, BusSilentError, Reading, ServoError
from embodied.hardware.dynamixel import DYNAMIXEL
from embodied.hardware.feetech import FEETECH
from embodied.hardware.port import PortError, PortLostError
from embodied.hardware.vendor import Vendor
from tests.servo_emulator.process import Emulator

IDS = range(1, 7)
VENDORS = {vendor.name: vendor for vendor in (FEETECH, DYNAMIXEL)}


@pytest.fixture(scope="module", params=VENDORS)
def emulated(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with Emulator(vendor=request.param, seed=3, no_cameras=True) as emulated:
        emulated.vendor = VENDORS[request.param]
        yield emulated


@pytest.fixture
def bus(emulated: Emulator) -> Iterator[Bus]:
    bus = Bus(emulated.vendor, emulated.port, IDS)
    for servo in IDS:
        bus.set(servo, "return_delay", 0)
    yield bus
    bus.close()
    emulated.ask({"clear": True})


def read_on(bus: Bus, count: int) -> list[Reading]:
    """Read so many times; a tick that brings nothing is left out, as the loop does."""
    found = []
    for _ in range(count):
        try:
            found.append(bus.read())
        except BusLostError:
            raise
        except BusSilentError:
            continue
    return found


def test_a_reading_is_what_the_servos_sense(emulated: Emulator, bus: Bus) -> None:
    truth, reading = emulated.truth(), read_on(bus, 5)[-1]
    np.testing.assert_allclose(reading.position, list(truth["present"].values()), atol=3)
    np.testing.assert_allclose(reading.temperature_c, list(truth["temperature_c"].values()), atol=1)
    assert (reading.voltage_v > 4).all() and np.abs(reading.load).max() <= 1
    assert reading.alarms == (frozenset(),) * 6
    assert 0 <= time.monotonic_ns() - reading.time_ns < 5e9


def test_goals_reach_the_servos_and_move_them(emulated: Emulator, bus: Bus) -> None:
    before = read_on(bus, 5)[-1].position
    for servo, count in zip(IDS, before.tolist(), strict=True):
        bus.set(servo, "goal_position", count)
    bus.set_torque(True)
    wanted = before.copy()
    wanted[0] += 100
    deadline = time.monotonic() + 10
    while abs(read_on(bus, 3)[-1].position[0] - wanted[0]) > 12:
        assert time.monotonic() < deadline
        bus.write_goals(wanted)
    assert emulated.truth()["torque"] == dict.fromkeys(emulated.truth()["torque"], True)
    bus.write_goals(before)
    bus.set_torque(False)


def test_who_answers_says_what_it_is_and_who_does_not_is_nobody(emulated: Emulator, bus: Bus) -> None:
    found = bus.ping(3)
    assert found is not None and found.id == 3 and bus.vendor.model(found.model).startswith(("STS3215", "XL330"))
    assert found.firmware and bus.ping(42) is None


def test_a_register_is_written_to_stay_and_locked_again(bus: Bus) -> None:
    before = bus.get(2, "homing_offset")
    bus.set(2, "homing_offset", -37)
    assert bus.get(2, "homing_offset") == -37
    if "lock" in bus.vendor.registers:
        assert bus.get(2, "lock") == 1
    bus.set(2, "homing_offset", before)


def test_what_a_servo_does_not_take_is_named_with_the_servo_and_the_register(bus: Bus) -> None:
    with pytest.raises(ServoError, match="servo 2: return_delay cannot be 1000"):
        bus.set(2, "return_delay", 1000)
    with pytest.raises(ServoError, match=r"servo 42 on .* asked for its present_position"):
        bus.get(42, "present_position")
    with pytest.raises(ServoError, match=rf"servo 2 on .* keeps model_number at {bus.get(2, 'model_number')}"):
        bus.set(2, "model_number", 5)
    with pytest.raises(UnknownNameError, match="goal_position"):
        bus.get(2, "gaol_position")


@pytest.mark.parametrize("kind", ["dropped", "corrupted", "truncated", "echoed"])
def test_bad_packets_are_asked_for_again_and_never_believed(kind: str, emulated: Emulator, bus: Bus) -> None:
    before = read_on(bus, 5)[-1].position
    emulated.ask({"fault": {"kind": kind, "share": 1.0 if kind == "echoed" else 0.1}})
    readings = read_on(bus, 150)
    assert len(readings) > 100
    for reading in readings:
        np.testing.assert_allclose(reading.position, before, atol=8)
        assert (reading.temperature_c < 60).all() and (reading.voltage_v < 15).all()
    struck = emulated.truth()["counters"].get(f"fault_{kind}", 0)
    assert struck > 10
    if kind != "echoed":
        assert bus.statistics.retries > struck / 10


def test_registers_are_read_right_through_an_adapter_that_echoes(emulated: Emulator, bus: Bus) -> None:
    registers = [name for name in bus.vendor.registers if not name.startswith("present")]
    before = {name: bus.get(4, name) for name in registers}
    emulated.ask({"fault": {"kind": "echoed"}})
    assert {name: bus.get(4, name) for name in registers} == before
    found = bus.ping(4)
    assert found is not None and found.id == 4
    bus.set(4, "homing_offset", 21)
    assert bus.get(4, "homing_offset") == 21
    bus.set(4, "homing_offset", before["homing_offset"])


def test_a_late_answer_is_not_taken_for_that_to_the_next_question(bus: Bus) -> None:
    bus._link.handler.readTx(bus._link.port, 1, *at(bus.vendor, "model_number"))
    bus._link.port.is_using = False
    time.sleep(0.05)  # it has come by now, and nobody has looked
    assert bus.get(1, "id") == 1
    bus._link.handler.readTx(bus._link.port, 1, *at(bus.vendor, "model_number"))
    bus._link.port.is_using = False
    time.sleep(0.05)
    assert bus.get(1, "return_delay") == 0 and len(read_on(bus, 3)) > 0


def at(vendor: Vendor, register: str) -> tuple[int, int]:
    return vendor.register(register).address, vendor.register(register).size


def test_a_servo_that_falls_silent_is_named_once_it_is_certain(emulated: Emulator, bus: Bus) -> None:
    assert read_on(bus, 5)
    emulated.ask({"fault": {"kind": "dead", "id": 4}})
    errors: list[BusSilentError] = []
    began_s = time.monotonic()
    while not errors or not isinstance(errors[-1], BusLostError):
        with pytest.raises(BusSilentError) as raised:
            bus.read()
        errors.append(raised.value)
    assert len(errors) >= LOST_AFTER and time.monotonic() - began_s >= LOST_S
    assert "servo 4 on" in str(errors[-1]) and "cable" in str(errors[-1])
    emulated.ask({"clear": True})
    emulated.ask({"attach": "all"})
    assert read_on(bus, 5)


def test_a_program_that_stood_still_itself_does_not_take_that_for_silence(emulated: Emulator, bus: Bus) -> None:
    read_on(bus, 5)
    emulated.ask({"attach": []})
    for pause_s in (0.0, 0.0, 2 * LOST_S, 2 * LOST_S, 0.0, 0.0):
        time.sleep(pause_s)
        with pytest.raises(BusSilentError) as raised:
            bus.read()
        assert not isinstance(raised.value, BusLostError)
    emulated.ask({"attach": "all"})
    assert read_on(bus, 5)


def test_a_position_that_no_joint_reaches_so_soon_is_asked_for_again(bus: Bus) -> None:
    reading = read_on(bus, 5)[-1]
    bus._last = {
        i: count + 2000 for i, count in zip(IDS, reading.position.tolist(), strict=True)
    }  # as if a wrong one had passed for right
    before = bus.statistics.implausible
    read_on(bus, 1)
    assert bus.statistics.implausible > before
    np.testing.assert_allclose(read_on(bus, 3)[-1].position, reading.position, atol=8)


def test_a_port_that_takes_nothing_more_is_waited_for_and_not_asked_all_tick_long() -> None:
    far, near = os.openpty()
    os.set_blocking(near, False)
    bus = Bus(FEETECH, os.ttyname(near), IDS)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(near, bytes(1024))
    begun_s = time.process_time()
    for _ in range(10):
        with pytest.raises(BusSilentError):
            bus.read()
    assert bus.statistics.retries <= 30
    assert time.process_time() - begun_s < 0.05
    bus.close()
    os.close(far)
    os.close(near)


def test_a_port_that_this_program_has_open_is_not_opened_again(emulated: Emulator, bus: Bus) -> None:
    with pytest.raises(PortError, match="is open in this program already: each arm has a port of its own"):
        Bus(emulated.vendor, emulated.port)


def test_the_port_belongs_to_one_process_which_is_named(emulated: Emulator) -> None:
    opens = f"port = serial.Serial({emulated.port!r}, exclusive=True)"
    code = f"import serial, sys; {opens}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None and other.stdout.readline()
        with pytest.raises(PortError, match=rf"in use by another process \(.*{other.pid}: .*\): end it"):
            Bus(emulated.vendor, emulated.port)
        other.stdin.close()


def test_a_port_that_was_closed_touches_no_file_that_has_its_number_now(emulated: Emulator, tmp_path: Path) -> None:
    bus = Bus(emulated.vendor, emulated.port, IDS)
    number = bus._link.port._fd
    bus.close()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.dup2(file, number)
    for use in (lambda: bus.get(1, "id"), bus.read, lambda: bus.write_goals(np.full(6, 2048))):
        with pytest.raises(PortLostError, match="is closed"):
            use()
    for opened in {file, number}:
        os.close(opened)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_question_that_is_broken_off_keeps_nobody_from_asking_again(emulated: Emulator, bus: Bus) -> None:
    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    emulated.ask({"fault": {"kind": "dead", "id": 3}})
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    try:
        with pytest.raises(KeyboardInterrupt):
            bus.get(3, "id")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    emulated.ask({"clear": True})
    assert bus.get(3, "id") == 3 and read_on(bus, 5)


def test_a_setting_that_is_said_to_be_written_outlives_the_power_however_many_packets_are_lost(
    emulated: Emulator, bus: Bus
) -> None:
    before, written = bus.get(2, "homing_offset"), 0
    for value in range(20, 28):
        emulated.ask({"fault": {"kind": "dropped", "share": 0.2}})
        try:
            bus.set(2, "homing_offset", value)
        except ServoError:  # it was not certain, and said so
            continue
        finally:
            emulated.ask({"clear": True})
        emulated.ask({"power_cycle": True})
        assert bus.get(2, "homing_offset") == value
        written += 1
    assert written > 2
    bus.set(2, "homing_offset", before)


def test_a_servo_whose_baud_rate_was_changed_is_locked_where_it_answers_now(emulated: Emulator, bus: Bus) -> None:
    bus.set(5, "baud_rate", bus.vendor.bauds[115_200])
    bus.baud = 115_200
    if "lock" in bus.vendor.registers:
        assert bus.get(5, "lock") == 1
    bus.set(5, "baud_rate", bus.vendor.bauds[1_000_000])
    bus.baud = 1_000_000
    assert bus.get(5, "id") == 5


def test_a_baud_rate_that_the_servos_do_not_have_finds_nobody_and_a_scan_tells_where_they_are(
    emulated: Emulator, bus: Bus
) -> None:
    bus.baud = 115_200
    assert bus.ping(1) is None
    bus.baud = 1_000_000
    assert bus.ping(1) is not None
    with pytest.raises(PortError, match="know no 12345 baud"):
        bus.baud = 12_345


def test_an_unplugged_port_is_gone_at_once_and_can_be_opened_again_later() -> None:
    with Emulator(seed=3, no_cameras=True) as emulated:
        bus = Bus(FEETECH, emulated.port, IDS)
        assert read_on(bus, 5)
        emulated.ask({"fault": {"kind": "unplugged", "for_s": 0.5}})
        with pytest.raises((PortLostError, BusSilentError)) as raised:
            for _ in range(100):
                bus.read()
        assert emulated.port in str(raised.value)
        bus.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                bus = Bus(FEETECH, emulated.port, IDS)
                break
            except PortError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert read_on(bus, 10)
        bus.close()


def test_two_servos_with_one_id_are_told_from_one(tmp_path) -> None:
    with Emulator(state="fresh", seed=3, no_cameras=True) as emulated:
        bus = Bus(FEETECH, emulated.port)
        with pytest.raises(ServoError, match=r"two servos .* id 1: .*embodied setup"):
            bus.ping(1)
        emulated.ask({"attach": ["gripper"]})
        assert bus.ping(1) is not None
        bus.set(1, "id", 6)
        assert bus.ping(1) is None and bus.ping(6) is not None
        bus.close()


@pytest.mark.parametrize("port", ["/dev/nothing-here", "/dev/null", "/etc/hostname", "/tmp"])
def test_what_is_no_port_is_said_in_a_line(port: str) -> None:
    with pytest.raises(PortError, match=port) as error:
        Bus(FEETECH, port)
    assert "\n" not in str(error.value) and "serial port" in str(error.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a port that is not allowed, and be someone else")
def test_a_port_without_permission_comes_with_the_command_that_gives_it() -> None:
    leader, follower = os.openpty()
    os.chmod(os.ttyname(follower), 0o600)
    try:
        os.seteuid(65534)
        with pytest.raises(PortError, match="sudo usermod -aG dialout"):
            Bus(FEETECH, os.ttyname(follower))
    finally:
        os.seteuid(0)
        os.close(leader)
        os.close(follower)

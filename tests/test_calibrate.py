"""Calibrating an arm by hand: the real verbs against emulated servos, moved by an emulated person."""

from contextlib import closing

import numpy as np
import pytest

from embodied.hardware.bus import Bus
from embodied.hardware.calibration import REGISTERS, Calibration
from embodied.hardware.opening import hold, unsettled
from embodied.hardware.vendor import Vendor
from embodied.robots.koch import ARM as KOCH
from embodied.robots.so101 import ARM
from tests.guided import Guided, verb
from tests.operator_at import operator_at
from tests.servo_emulator.process import Emulator

ROBOT = "embodied.robots.so101"
MIDDLE = {"shoulder_pan": 0, "shoulder_lift": 0, "elbow_flex": 0, "wrist_flex": 0, "wrist_roll": 0, "gripper": 0.78}


@pytest.fixture(scope="module")
def arm():
    with Emulator(seed=3, state="assembled", no_cameras=True) as emulated:
        yield emulated


@pytest.fixture(autouse=True)
def _as_it_was(arm):
    yield
    arm.ask({"clear": True})
    arm.ask({"hand": "release"})


def settings(port: str) -> dict[int, dict[str, int]]:
    names = (*REGISTERS.values(), *ARM.vendor.settled, *ARM.vendor.cleared)
    with closing(Bus(ARM.vendor, port, ARM.ids, baud=ARM.baud)) as bus:
        return {servo: {name: bus.get(servo, name) for name in names} for servo in ARM.ids}


def write(port: str, vendor: Vendor, servo: int, **registers: int) -> None:
    with closing(Bus(vendor, port, (servo,))) as bus:
        for name, value in registers.items():
            bus.set(servo, name, value)


def held(port: str) -> None:
    bus = Bus(ARM.vendor, port, ARM.ids, baud=ARM.baud)
    hold(bus)
    bus.close()


def to_the_sweep(guided, arm) -> None:
    guided.sees("Support it, then press Enter:")
    guided.enter()
    guided.sees("1 of 2: hold every joint in the middle of its range (wrist_roll: at zero), then press Enter:")
    arm.ask({"hand": MIDDLE, "over_s": 0.5})
    guided.enter()
    guided.sees("2 of 2: move every joint but wrist_roll slowly from stop to stop.")


def test_a_sweep_by_hand_calibrates_the_arm(arm, tmp_path):
    (path := tmp_path / "so101.json").write_text("the old one")
    write(arm.port, ARM.vendor, 2, phase=12 | 16)
    write(arm.port, ARM.vendor, 6, overload_torque=25, operating_mode=3)
    with Guided("calibrate", ROBOT, "--port", arm.port, "--out", str(path)) as guided:
        to_the_sweep(guided, arm)
        assert not any(arm.truth()["torque"].values())
        arm.ask({"hand": "sweep", "over_s": 0.4})
        guided.enter()
        guided.sees("so101 is calibrated: written to its servos and to")
        guided.sees(f"the calibration that was there is kept in {path}.bak")
        guided.sees(f"embodied host {ROBOT} --option port={arm.port} --option calibration={path}")
        assert guided.end() == 0
    assert all(f"{name} ok: " in guided.shown for name in ARM.names if name != "wrist_roll")
    made = Calibration.load(path, ARM)
    bus = Bus(ARM.vendor, arm.port, ARM.ids, baud=ARM.baud)
    made.check(bus, ARM)
    assert not any(unsettled(bus, servo) or bus.get(servo, "return_delay") for servo in bus.ids)
    assert bus.get(2, "phase") == 12
    bus.close()
    assert (tmp_path / "so101.json.bak").read_text() == "the old one"
    truth = arm.truth()
    for name in ARM.names:  # a count is 0.09 degrees, and stops give a little when they are leant on
        said_rad = (truth["present"][name] - 2048) * 2 * np.pi / 4096
        assert said_rad == pytest.approx(truth["joints"][name], abs=0.01), name
    ends = [counts for joint in made.joints.values() for counts in (joint.low_count, joint.high_count)]
    real = [end for joint in ARM.joints for end in (joint.low_rad, joint.high_rad)]
    assert (np.array(ends) - 2048) * 2 * np.pi / 4096 == pytest.approx(real, abs=0.02)
    assert not any(truth["torque"].values())


@pytest.mark.slow
def test_a_dynamixel_arm_is_calibrated_too(tmp_path):
    path = tmp_path / "koch.json"
    with Emulator(seed=4, state="assembled", vendor="dynamixel", no_cameras=True) as arm:
        for servo in KOCH.ids:  # as LeRobot leaves them
            write(arm.port, KOCH.vendor, servo, operating_mode=4 if servo < 6 else 5, homing_offset=-2000, drive_mode=4)
        with Guided("calibrate", "embodied.robots.koch", "--port", arm.port, "--out", str(path)) as guided:
            to_the_sweep(guided, arm)
            arm.ask({"hand": "sweep", "over_s": 0.5})
            guided.enter()
            guided.sees("koch is calibrated")
            assert guided.end() == 0
        bus = Bus(KOCH.vendor, arm.port, KOCH.ids, baud=KOCH.baud)
        Calibration.load(path, KOCH).check(bus, KOCH)
        bus.close()
        truth = arm.truth()
        for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"):
            said_rad = (truth["present"][name] - 2048) * 2 * np.pi / 4096
            assert said_rad == pytest.approx(truth["joints"][name], abs=0.01), name


def test_ctrl_c_leaves_the_servos_and_the_file_as_they_were(arm, tmp_path):
    (path := tmp_path / "so101.json").write_text("the old one")
    write(arm.port, ARM.vendor, 2, phase=12 | 16)
    before = settings(arm.port)
    with operator_at("calibrate", ROBOT, "--port", arm.port, "--out", path) as operator:
        operator.sees("Support it, then press Enter:")
        operator.type("\n")
        operator.sees("1 of 2")
        operator.type("\n")
        operator.sees("min      now      max  degrees")
        operator.sees("\x1b[7F\x1b[J")  # the table is drawn again where it was
        operator.sees("of 220.0 degrees")
        operator.type("\n")
        operator.sees("not yet: shoulder_pan moved")
        operator.sees("or type again to begin the sweep anew")
        operator.type("\x03")
        operator.sees("the calibration was not finished: so101's servos keep their settings")
        operator.sees("so101.json is as it was")
        operator.sees("interrupted")
        assert operator.ends() == 130
    assert settings(arm.port) == before
    write(arm.port, ARM.vendor, 2, phase=12)
    assert path.read_text() == "the old one"


def test_input_that_ends_too_soon_names_the_joints_that_were_not_moved(arm, tmp_path):
    with Guided("calibrate", ROBOT, "--port", arm.port, "--out", str(tmp_path / "so101.json")) as guided:
        to_the_sweep(guided, arm)
        assert guided.end() == 2
    last = guided.shown.strip().splitlines()[-1]
    assert last.startswith("error: the input ended before this was done: shoulder_pan moved 0.")
    assert "gripper moved 0." in last
    assert "Traceback" not in guided.shown
    assert not (tmp_path / "so101.json").exists()


def test_a_bus_that_is_lost_ends_it_and_nothing_was_written(arm, tmp_path):
    before = settings(arm.port)
    with Guided("calibrate", ROBOT, "--port", arm.port, "--out", str(tmp_path / "so101.json")) as guided:
        to_the_sweep(guided, arm)
        arm.ask({"fault": {"kind": "dead", "id": 3}})
        guided.sees("error: servo 3 on")
        assert guided.end() == 2
    assert "so101's servos keep their settings" in guided.shown
    arm.ask({"clear": True})
    assert settings(arm.port) == before


class TestMistakes:
    @pytest.mark.parametrize("name", ["calibrate", "setup", "relax"])
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("embodied.robots.nothing",), "no robot module 'embodied.robots.nothing'; this installation has ["),
            (("envs.so101",), "envs.so101 offers no ARM"),
            ((ROBOT,), "name the arm's with --port"),
            ((ROBOT, "--port", "/dev/nothing"), "no port /dev/nothing"),
            ((ROBOT, "--port", "/dev/null"), "/dev/null is no serial port"),
        ],
    )
    def test_a_mistake_is_one_line(self, name, arguments, says, capsys):
        from embodied.cli import main

        assert main([name, *arguments]) == 2
        shown = capsys.readouterr().err.strip()
        assert shown.startswith("error: ")
        assert says in shown
        assert "\n" not in shown

    def test_a_missing_servo_is_named(self, arm):
        arm.ask({"fault": {"kind": "dead", "id": 5}})
        status, shown = verb("calibrate", ROBOT, "--port", arm.port)
        assert status == 2
        assert "wrist_roll: no servo with id 5 answers" in shown

    def test_another_arm_is_named(self, arm):
        status, shown = verb("calibrate", "embodied.robots.koch", "--port", arm.port)
        assert status == 2
        assert "no servo answers on" in shown


class TestRelax:
    def test_without_an_answer_the_arm_stays_as_it_is(self, arm):
        held(arm.port)
        status, shown = verb("relax", ROBOT, "--port", arm.port)
        assert status == 2
        assert "Support it, then press Enter:" in shown
        assert all(arm.truth()["torque"].values())

    def test_on_enter_all_motors_are_off(self, arm):
        held(arm.port)
        assert verb("relax", ROBOT, "--port", arm.port, answers=[""])[0] == 0
        assert not any(arm.truth()["torque"].values())

    def test_a_servo_that_does_not_answer_is_named_and_the_others_are_off(self, arm):
        held(arm.port)
        arm.ask({"fault": {"kind": "dead", "id": 2}})
        status, shown = verb("relax", ROBOT, "--port", arm.port, "--yes")
        assert status == 2
        assert "not limp, as far as is known" in shown
        assert "shoulder_lift: servo 2" in shown
        torque = arm.truth()["torque"]
        assert [name for name, on in torque.items() if on] == ["shoulder_lift"]

    def test_a_servo_whose_answers_are_lost_is_switched_off_all_the_same_and_named(self, arm):
        held(arm.port)
        arm.ask({"fault": {"kind": "dropped", "id": 2}})
        status, shown = verb("relax", ROBOT, "--port", arm.port, "--yes")
        assert status == 2
        assert "shoulder_lift: servo 2" in shown and "does not answer since torque_enable was written" in shown
        assert not any(arm.truth()["torque"].values())

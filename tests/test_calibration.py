"""A calibration says which counts are which angles, of which servos; with any others nothing moves."""

import json
import os
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest

from embodied.hardware.bus import Bus, ServoError
from embodied.hardware.calibration import (
    Calibration,
    CalibrationError,
    JointCalibration,
    counts_of,
    default_path,
    radians_of,
)
from embodied.hardware.eeprom import Settings
from embodied.hardware.sweep import SETTLED_S, Fitted, Sweep, actual_of
from embodied.robots.koch import ARM as KOCH
from embodied.robots.so101 import ARM
from tests.servo_emulator.process import Emulator

JOINTS = {joint.name: JointCalibration(joint.id, joint.model, "3.10", -98, 796, 3300) for joint in ARM.joints}
CALIBRATION = Calibration("so101", "2026-11-25T20:00:00+00:00", JOINTS)
DEGREE = 4096 / 360


class TestFile:
    def test_what_is_saved_is_loaded(self, tmp_path):
        CALIBRATION.save(tmp_path / "deep" / "so101.json")
        assert Calibration.load(tmp_path / "deep" / "so101.json", ARM) == CALIBRATION
        assert [p.name for p in (tmp_path / "deep").iterdir()] == ["so101.json"]

    def test_a_missing_file_is_named_with_what_to_do(self, tmp_path):
        with pytest.raises(CalibrationError, match=r"so101 has no calibration at .*; calibrate it: embodied cal"):
            Calibration.load(tmp_path / "no.json", ARM)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda data: data.pop("format"), "does not begin with format"),
            (lambda data: data.update(robot="koch"), "it is of robot 'koch'"),
            (lambda data: data.update(made=3), "does not say when"),
            (lambda data: data["joints"].pop("gripper"), r"it has joints \['elbow_flex'"),
            (lambda data: data["joints"]["gripper"].pop("firmware"), "joint gripper has not the numbers"),
            (lambda data: data["joints"]["gripper"].update(homing_offset=1.5), "joint gripper has not the numbers"),
            (lambda data: data["joints"]["gripper"].update(extra=1), "joint gripper has not the numbers"),
            (lambda data: data["joints"]["gripper"].update(id=2), "gripper is servo 2 of model 777, not 6 of 777"),
            (lambda data: data["joints"]["gripper"].update(low_count=3300), r"gripper has the range 3300..3300"),
            (lambda data: data["joints"]["gripper"].update(high_count=5000), r"gripper has the range 796..5000"),
        ],
    )
    def test_a_damaged_file_is_refused_with_what_is_wrong(self, tmp_path, change, says):
        CALIBRATION.save(path := tmp_path / "so101.json")
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))
        with pytest.raises(CalibrationError, match=f"so101.json is no calibration of so101: .*{says}"):
            Calibration.load(path, ARM)

    def test_what_is_no_json_is_refused(self, tmp_path):
        (tmp_path / "so101.json").write_text("{")
        with pytest.raises(CalibrationError, match="cannot read the calibration"):
            Calibration.load(tmp_path / "so101.json", ARM)

    def test_a_place_that_takes_no_file_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CalibrationError, match=r"cannot write the calibration .*file/so101.json"):
            CALIBRATION.save(tmp_path / "file" / "so101.json")

    def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(self, tmp_path):
        CALIBRATION.save(path := tmp_path / "so101.json")
        before, limits = path.read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            with pytest.raises(CalibrationError, match=r"cannot write the calibration .*so101.json"):
                CALIBRATION.save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.read_text() == before and os.listdir(tmp_path) == ["so101.json"]

    @pytest.mark.parametrize(
        ("arm", "module"),
        [(ARM, "embodied.robots.so101"), (KOCH, "embodied.robots.koch"), (replace(ARM, module="my.arm"), "my.arm")],
    )
    def test_an_advice_names_the_module_of_the_arm(self, arm, module, tmp_path):
        with pytest.raises(CalibrationError, match=f"embodied calibrate {module}$"):
            Calibration.load(tmp_path / "no.json", arm)

    def test_it_is_kept_where_a_users_settings_are(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        assert default_path("so101") == tmp_path / "embodied" / "so101.json"


class TestCounts:
    def test_the_middle_count_is_zero_and_a_turn_is_two_pi(self):
        assert counts_of(ARM, np.zeros(6)).tolist() == [2048] * 6
        assert radians_of(ARM, np.full(6, 2048 + 1024)) == pytest.approx([np.pi / 2] * 6)

    def test_a_joint_may_turn_against_its_servo(self):
        turned = replace(ARM, joints=(replace(ARM.joints[0], direction=-1), *ARM.joints[1:]))
        counts = counts_of(turned, np.full(6, 0.5))
        assert counts[0] - 2048 == -(counts[1] - 2048) == -326
        assert radians_of(turned, counts) == pytest.approx(np.full(6, 0.5), abs=1e-3)

    def test_there_and_back_is_within_half_a_count(self):
        rad = np.random.default_rng(0).uniform(ARM.low_rad, ARM.high_rad, (500, 6))
        for row in rad:
            assert np.abs(radians_of(ARM, counts_of(ARM, row)) - row).max() <= np.pi / 4096 + 1e-12


def swept(arm, zeros: np.ndarray, low: np.ndarray, high: np.ndarray, off=0.0) -> Sweep:
    """Sweep an arm whose encoders read zeros at joint zero, held off rad from the middle of its range at first."""
    directions = np.array([joint.direction for joint in arm.joints])
    loose = np.array([not joint.stops for joint in arm.joints])
    at = np.where(loose, 0.0, (arm.low_rad + arm.high_rad) / 2 + off)

    def actual(rad):
        return np.rint(zeros + directions * rad * 4096 / (2 * np.pi)).astype(int) % 4096

    sweep, now_s = Sweep(arm, actual(at)), 0.0
    for start, end in ((at, low), (low, high), (high, at)):
        for share in np.linspace(0, 1, 60):
            sweep.see(actual(start + share * (end - start)), now_s := now_s + 0.02)
    return sweep


class TestSweep:
    def test_wherever_the_horns_sit_zero_is_in_the_middle_of_the_stops(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            zeros = rng.integers(0, 4096, 6)
            fitted = swept(ARM, zeros, ARM.low_rad, ARM.high_rad, off=rng.uniform(-0.3, 0.3)).fitted()
            for index, joint in enumerate(ARM.joints):
                its = fitted[joint.name]
                assert abs(its.homing_offset) <= 2047
                assert (zeros[index] - its.homing_offset - 2048 + 2048) % 4096 - 2048 in (-1, 0, 1)
                ends = np.sort([counts_of(ARM, ARM.low_rad)[index], counts_of(ARM, ARM.high_rad)[index]])
                assert np.abs(ends - [its.low_count, its.high_count]).max() <= 2

    def test_a_range_that_is_a_little_smaller_narrows_the_limits(self):
        fitted = swept(ARM, np.full(6, 2048), ARM.low_rad + 0.05, ARM.high_rad - 0.05).fitted()["elbow_flex"]
        low, high = counts_of(ARM, ARM.low_rad + 0.05)[2], counts_of(ARM, ARM.high_rad - 0.05)[2]
        assert np.abs([fitted.low_count - low, fitted.high_count - high]).max() <= 2

    def test_a_joint_that_was_not_moved_far_enough_is_named_with_both_angles(self):
        sweep = swept(ARM, np.full(6, 2048), ARM.low_rad * [1, 1, 0.4, 1, 1, 1], ARM.high_rad * [1, 1, 0.4, 1, 1, 1])
        assert sweep.misfits() == {"elbow_flex": "moved 77.5 of 193.7 degrees"}
        with pytest.raises(CalibrationError, match=r"^elbow_flex moved 77.5 of 193.7 degrees$"):
            sweep.fitted()

    def test_a_joint_that_was_moved_too_far_is_named(self):
        wide = swept(ARM, np.full(6, 2048), ARM.low_rad - [0.3, 0, 0, 0, 0, 0], ARM.high_rad)
        assert list(wide.misfits()) == ["shoulder_pan"]

    def test_a_middle_pose_that_was_none_is_named(self):
        wrong = swept(ARM, np.full(6, 2048), ARM.low_rad, ARM.high_rad, off=np.array([0, 0.7, 0, 0, 0, 0]))
        assert wrong.misfits() == {"shoulder_lift": "its middle pose was held 40 degrees from the middle of its stops"}

    def test_a_joint_on_its_way_to_a_stop_is_not_done(self):
        sweep = swept(ARM, np.full(6, 2048), ARM.low_rad, ARM.high_rad - 0.1)
        beyond = counts_of(ARM, ARM.high_rad - 0.05)
        sweep.see(beyond, 100.0)
        assert sweep.misfits()["shoulder_pan"] == "still moves outwards"
        sweep.see(beyond, 100.0 + SETTLED_S)
        assert sweep.misfits() == {}

    def test_a_dynamixel_whose_horn_sits_wrong_is_refused(self):
        good = swept(KOCH, np.full(6, 2048 + 150), KOCH.low_rad, KOCH.high_rad).fitted()
        assert good["elbow_flex"].homing_offset == -150
        with pytest.raises(CalibrationError, match=r"elbow_flex: its horn sits .* off the servo's middle; take it off"):
            swept(KOCH, np.array([2048, 2048, 3300, 2048, 2048, 2048]), KOCH.low_rad, KOCH.high_rad).fitted()

    def test_encoders_are_read_without_what_the_servos_add(self):
        offsets = np.array([100, -100])
        assert actual_of(ARM.vendor, np.array([4000, 50]), offsets).tolist() == [4, 4046]
        assert actual_of(KOCH.vendor, np.array([2100, 1900]), offsets).tolist() == [2000, 2000]
        assert actual_of(KOCH.vendor, np.array([2100]), np.array([1500])).tolist() == [2100]  # which it ignores


@pytest.fixture(scope="class")
def arm():
    with Emulator(seed=3, no_cameras=True) as emulated:
        yield emulated


@pytest.fixture
def bus(arm):
    opened = Bus(ARM.vendor, arm.port, ARM.ids, baud=ARM.baud)
    yield opened
    opened.close()
    arm.ask({"clear": True})


@pytest.fixture
def calibration(arm, tmp_path):
    arm.calibration(tmp_path / "so101.json")
    return Calibration.load(tmp_path / "so101.json", ARM)


class TestCheck:
    def test_the_arm_that_was_calibrated_passes(self, bus, calibration):
        calibration.check(bus, ARM)

    def test_another_arm_is_refused_with_every_difference(self, bus, calibration):
        joints = dict(calibration.joints)
        pan, gripper = joints["shoulder_pan"], joints["gripper"]
        joints["shoulder_pan"] = replace(pan, homing_offset=pan.homing_offset + 7, firmware="9.9")
        joints["gripper"] = replace(gripper, low_count=gripper.low_count + 1)
        with pytest.raises(CalibrationError) as refused:
            replace(calibration, joints=joints).check(bus, ARM)
        lines = str(refused.value).splitlines()
        assert "nothing moves" in lines[0]
        assert lines[1:4] == [
            "  - shoulder_pan: firmware is 3.10, the calibration has 9.9",
            f"  - shoulder_pan: homing_offset is {pan.homing_offset}, the calibration has {pan.homing_offset + 7}",
            f"  - gripper: min_position is {gripper.low_count}, the calibration has {gripper.low_count + 1}",
        ]
        assert f"embodied calibrate embodied.robots.so101 --port {bus.name}" in lines[-1]

    def test_a_servo_that_does_not_answer_is_named(self, arm, bus, calibration):
        arm.ask({"fault": {"kind": "dead", "id": 4}})
        with pytest.raises(CalibrationError, match="wrist_flex: no servo with id 4 answers"):
            calibration.check(bus, ARM)


class TestSettings:
    NEW = Fitted(5, 1000, 3000)

    def test_what_was_written_over_is_put_back(self, bus, calibration):
        settings = Settings(bus)
        settings.write(dict.fromkeys((1, 2), self.NEW))
        assert (bus.get(2, "homing_offset"), bus.get(2, "min_position")) == (5, 1000)
        assert settings.restore() == []
        calibration.check(bus, ARM)

    def test_a_servo_that_is_lost_meanwhile_is_named_and_the_others_are_put_back(self, arm, bus, calibration):
        settings = Settings(bus)
        settings.write(dict.fromkeys((1, 2), self.NEW))
        arm.ask({"fault": {"kind": "dead", "id": 2}})
        with pytest.raises(ServoError):
            settings.write({2: replace(self.NEW, homing_offset=6)})
        assert settings.restore() == [2]
        arm.ask({"clear": True})
        assert bus.get(1, "homing_offset") == calibration.joints["shoulder_pan"].homing_offset
        assert settings.restore() == []
        calibration.check(bus, ARM)

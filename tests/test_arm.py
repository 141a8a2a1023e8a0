"""Real arms' drivers on emulated servos: what a policy meets, what reaches the servos, and when the arm stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from embodied.errors import EmbodiedError, HardwareError, ProtocolError, UnknownNameError
from embodied.hardware.body import Parts, ServoArm
from embodied.hardware.bus import Bus, BusLostError, ServoError
from embodied.hardware.calibration import Calibration, counts_of
from embodied.hardware.dynamixel import DYNAMIXEL
from embodied.hardware.opening import greet, hold, unsettled
from embodied.hardware.port import PortError
from embodied.hardware.stage import NoStage, StageError
from embodied.modules import check_options, open_robot
from embodied.realtime import RealTimeRobot
from embodied.robots import so101
from embodied.types import PoseAction, SkillCall, TextAction
from tests.emulated_arm import RAD, ROBOTS, VENDORS, opened, pose, travelled, until
from tests.mjpeg_server import MotionJpegServer
from tests.servo_emulator.process import Emulator

SO101 = so101.ARM
HOME = np.array(SO101.home_rad)


@pytest.fixture(scope="module", params=VENDORS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def each(kind: str) -> Iterator[Emulator]:
    """An arm of each vendor."""
    with Emulator(vendor=VENDORS[kind], seed=3, no_cameras=True) as emulated:
        yield emulated


@pytest.fixture
def arm(kind: str, each: Emulator, tmp_path: Path) -> Iterator[RealTimeRobot]:
    with opened(kind, each, tmp_path) as robot:
        yield robot
    each.ask({"hand": "release"})
    mend(each)
    each.ask({"power_cycle": True})


def mend(emulated: Emulator) -> None:
    emulated.ask({"clear": True})
    emulated.ask({"fault": {"kind": "overheat", "value": 25.0}})  # a servo cools for minutes otherwise
    until(lambda: max(emulated.truth()["temperature_c"].values()) < 30)
    emulated.ask({"clear": True})


def bus_of(kind: str, emulated: Emulator) -> Bus:
    model = ROBOTS[kind].ARM
    return Bus(model.vendor, emulated.port, model.ids)


def begin(robot: RealTimeRobot) -> None:
    robot.reset(0, robot.spec.tasks[0])


def test_it_holds_where_it_stands_from_the_moment_it_is_opened_until_after_it_is_closed(
    kind: str, each: Emulator, tmp_path: Path
) -> None:
    before = each.truth()["joints"]
    with opened(kind, each, tmp_path):
        assert all(each.truth()["torque"].values())
        time.sleep(0.3)
        assert travelled(before, each.truth()["joints"]).max() < 0.03
    time.sleep(0.3)
    truth = each.truth()
    assert all(truth["torque"].values()) and travelled(before, truth["joints"]).max() < 0.03


def test_an_episode_begins_at_home_and_goes_where_it_is_told(kind: str, arm: RealTimeRobot, each: Emulator) -> None:
    model = ROBOTS[kind].ARM
    each.ask({"truth": "reset"})
    observation = arm.reset(0, arm.spec.tasks[0])
    np.testing.assert_allclose(observation.state, model.home_rad, atol=0.1)
    assert observation.instruction == arm.spec.tasks[0].replace("_", " ") and not observation.frames
    for _ in range(12):
        step = arm.step(pose(model, shoulder_pan=0.3, gripper=0.3))
    np.testing.assert_allclose(step.observation.state, pose(model, shoulder_pan=0.3, gripper=0.3).values, atol=0.08)
    np.testing.assert_allclose(list(each.truth()["joints"].values()), step.observation.state, atol=0.05)
    assert set(step.health) >= {"elbow_flex.temperature_c", "gripper.load", "wrist_flex.voltage_v", "bus.retries"}
    assert not step.success and not step.done and {fault.kind for fault in step.faults} <= {"bus", "load"}
    assert each.truth()["goals_outside"] == 0


def test_no_goal_is_further_ahead_than_the_arm_may_travel_within_its_watchdog(
    kind: str, arm: RealTimeRobot, each: Emulator
) -> None:
    begin(arm)
    each.ask({"truth": "reset"})
    model = ROBOTS[kind].ARM
    for sign in (1, -1) * 3:
        arm.step(pose(model, shoulder_pan=1.5 * sign, wrist_roll=-1.5 * sign))
    ahead = np.array(list(each.truth()["most_ahead_counts"].values())) * RAD
    assert 0.05 < ahead.max() <= max(model.limits.velocity) * model.watchdog_s


def test_a_person_who_holds_the_arm_makes_a_fault_and_no_far_goal(
    kind: str, arm: RealTimeRobot, each: Emulator
) -> None:
    begin(arm)
    model = ROBOTS[kind].ARM
    each.ask({"truth": "reset"})
    each.ask({"hand": {"shoulder_pan": 0.0}, "over_s": 4.0, "wait": False})
    found = set()
    for _ in range(25):
        step = arm.step(pose(model, shoulder_pan=1.2))
        found |= {(fault.part, fault.kind) for fault in step.faults}
        if step.done:
            break
    each.ask({"hand": "release"})
    assert ("shoulder_pan", "blocked") in found or ("shoulder_pan", "load") in found
    ahead = np.array(list(each.truth()["most_ahead_counts"].values())) * RAD
    assert ahead.max() <= max(model.limits.velocity) * model.watchdog_s


def test_one_servo_that_falls_silent_stops_the_episode_by_name_and_a_reset_begins_anew(
    arm: RealTimeRobot, each: Emulator, kind: str
) -> None:
    begin(arm)
    model = ROBOTS[kind].ARM
    each.ask({"fault": {"kind": "dead", "id": 5}})
    with pytest.raises(BusLostError, match="servo 5 on"):
        for _ in range(20):
            arm.step(pose(model, shoulder_pan=0.4))
    with pytest.raises(ProtocolError, match="call reset"):
        arm.step(pose(model))
    with pytest.raises(HardwareError, match="wrist_roll: no servo with id 5"):
        begin(arm)
    each.ask({"clear": True})
    begin(arm)
    assert not arm.step(pose(model)).done


@pytest.mark.parametrize(
    ("fault", "value", "what"),
    [("overheat", 67.0, "temperature"), ("voltage", None, "voltage"), ("overload", 1.0, "load")],
)
def test_a_servo_in_trouble_ends_the_episode_before_it_lets_go_and_is_named_with_what_to_do(
    fault: str, value: float | None, what: str, arm: RealTimeRobot, each: Emulator, kind: str
) -> None:
    begin(arm)
    model = ROBOTS[kind].ARM
    each.ask({"fault": {"kind": fault, "id": 3, "value": value}})
    step = arm.step(pose(model))
    deadline = time.monotonic() + 20
    while not step.done:
        assert time.monotonic() < deadline
        step = arm.step(pose(model))
    assert step.truncated and not step.success
    found = {(f.part, f.kind): f.detail for f in step.faults}
    assert ("elbow_flex", what) in found and "stopped" in found["elbow_flex", what], found
    if fault == "overheat":
        assert all(each.truth()["torque"].values())
        with pytest.raises(HardwareError, match="elbow_flex is too hot, 67"):
            begin(arm)
    mend(each)
    if kind == "koch" and fault == "voltage":  # its alarm is kept until its power is switched off and on
        with pytest.raises(HardwareError, match=r"servo 3 on .* keeps its motor off since its voltage alarm"):
            begin(arm)
        each.ask({"power_cycle": True})
    begin(arm)
    assert not arm.step(pose(model)).done


def test_words_move_the_arm_by_a_closed_table(arm: RealTimeRobot, kind: str) -> None:
    begin(arm)
    before = arm.observe(frames=False).state[5]
    for _ in range(3):
        step = arm.step(SkillCall("close gripper"))
    assert step.observation.state[5] < before - 0.2 and not step.interventions
    step = arm.step(TextAction("jump"))
    assert [i.kind for i in step.interventions] == ["unknown_verb"]
    step = arm.step(TextAction("move up"))
    assert [i.kind for i in step.interventions] == ([] if kind == "so101" else ["unknown_verb"])
    for word in ("wait", "stop", *["home"] * 8):
        step = arm.step(TextAction(word))
    np.testing.assert_allclose(step.observation.state, ROBOTS[kind].ARM.home_rad, atol=0.1)


def test_a_stop_on_the_way_home_leaves_the_arm_at_rest_and_no_episode(
    arm: RealTimeRobot, each: Emulator, kind: str
) -> None:
    begin(arm)
    for _ in range(10):
        arm.step(pose(ROBOTS[kind].ARM, shoulder_pan=1.5))
    stopper = threading.Timer(0.4, arm.stop)
    stopper.start()
    with pytest.raises(HardwareError, match="stopped on its way home"):
        begin(arm)
    truth = each.truth()
    assert truth["joints"]["shoulder_pan"] > 0.4 and all(truth["torque"].values())
    time.sleep(0.2)
    assert travelled(truth["joints"], each.truth()["joints"]).max() < 0.03


def test_a_second_arm_on_the_port_is_told_and_the_first_goes_on(
    arm: RealTimeRobot, each: Emulator, kind: str, tmp_path: Path
) -> None:
    begin(arm)
    with pytest.raises(PortError, match="is open in this program already"), opened(kind, each, tmp_path):
        pass
    assert not arm.step(pose(ROBOTS[kind].ARM)).done


def test_an_arm_that_had_no_power_meanwhile_is_checked_and_set_up_anew(
    arm: RealTimeRobot, each: Emulator, kind: str
) -> None:
    body, watched = arm.body, ("torque_limit", "acceleration", "goal_velocity")

    def held() -> list[int]:
        return arm._ask(lambda: [body.bus.get(servo, name) for servo in body.bus.ids for name in watched])

    before = held()
    each.ask({"power_cycle": True})
    assert held() != before
    homing = arm._ask(lambda: body.bus.get(2, "homing_offset"))
    arm._ask(lambda: body.bus.set(2, "homing_offset", homing + 3))
    with pytest.raises(HardwareError, match="shoulder_lift: homing_offset is"):
        begin(arm)
    with closing(bus_of(kind, each)) as bus:
        bus.set(2, "homing_offset", homing)
    begin(arm)
    assert held() == before and all(each.truth()["torque"].values())


def test_a_motor_that_went_off_in_an_episode_ends_it_by_name(arm: RealTimeRobot, each: Emulator, kind: str) -> None:
    begin(arm)
    arm._ask(lambda: arm.body.bus.set(3, "torque_enable", 0))
    with pytest.raises(HardwareError, match="elbow_flex's motor is off: look at its supply"):
        for _ in range(12):
            arm.step(pose(ROBOTS[kind].ARM))


def test_an_arm_that_stands_outside_its_range_takes_no_hold(kind: str, each: Emulator, tmp_path: Path) -> None:
    each.ask({"power_cycle": True})
    with closing(bus_of(kind, each)) as bus:
        high = bus.get(1, "max_position")
        bus.set(1, "max_position", bus.get(1, "present_position") - 100)
    written = each.truth()["goals_written"]
    with (
        pytest.raises(HardwareError, match=r"stands outside its range, shoulder_pan at .*embodied relax"),
        opened(kind, each, tmp_path),
    ):
        pass
    truth = each.truth()
    with closing(bus_of(kind, each)) as bus:
        bus.set(1, "max_position", high)
    assert truth["goals_written"] == written and not any(truth["torque"].values())


def test_servos_that_someone_else_set_up_are_set_up_anew_unless_their_motors_are_on(
    kind: str, each: Emulator, tmp_path: Path
) -> None:
    each.ask({"power_cycle": True})
    others = {"so101": {"phase": 28, "overload_torque": 25, "protection_time": 50}, "koch": {"drive_mode": 4}}[kind]
    with closing(bus_of(kind, each)) as bus:
        for register, value in others.items():
            bus.set(6, register, value)
        hold(bus)
    with (
        pytest.raises(ServoError, match=r"servo 6 on .* takes no settings while its motor is on: relax it first"),
        opened(kind, each, tmp_path),
    ):
        pass
    each.ask({"power_cycle": True})
    with opened(kind, each, tmp_path) as robot:
        assert not robot._ask(lambda: unsettled(robot.body.bus, 6))


def test_a_joint_that_falls_while_it_is_taken_hold_of_is_held_where_it_is(kind: str, each: Emulator) -> None:
    gaps = []
    for _ in range(3):  # of which one is not held up by a busy machine
        each.ask({"power_cycle": True})
        each.ask({"hand": {"gripper": 0.0}, "over_s": 0.3})
        with closing(bus_of(kind, each)) as bus:
            each.ask({"hand": {"gripper": 1.5}, "over_s": 0.3, "wait": False})
            time.sleep(0.075)  # a hand gathers speed
            hold(bus)
        each.ask({"hand": "release"})
        written = [goal for goal in each.ask({"goals": 12})["goals"] if goal["joint"] == "gripper"][-1]
        gaps.append(abs(written["count"] - written["present"]))
        if gaps[-1] < 30:
            return
    raise AssertionError(f"its goal was {gaps} counts from where it was")


class Deaf(NoStage):
    """Waits for ever, and takes no note of the first times that it is called off."""

    def __init__(self) -> None:
        self.cancels, self.begun, self.freed = 0, False, threading.Event()

    def begin(self, seed: int, task: str) -> str:
        self.begun = True
        self.freed.wait(10)
        return "too late"

    def cancel(self) -> None:
        self.cancels += 1
        if self.cancels > 2:
            self.freed.set()


def test_an_arm_without_its_loop_looks_before_it_moves_again_and_can_be_stopped_while_the_scene_is_laid_out(
    kind: str, each: Emulator, tmp_path: Path
) -> None:
    model, stage = ROBOTS[kind].ARM, Deaf()
    each.ask({"power_cycle": True})
    calibration = Calibration.load(each.calibration(tmp_path / "arm.json"), model)
    with closing(ServoArm(model, Parts(each.port, calibration, {}, stage), episode_s=60.0)) as body:
        stopper = threading.Thread(target=lambda: (until(lambda: stage.begun), body.stop()))
        stopper.start()
        with pytest.raises(HardwareError, match="was stopped before its episode began"):
            body.reset(0, model.tasks[0])
        assert stage.cancels > 2
        home = np.array(model.home_rad)
        for share in np.linspace(0, 1, 20):
            body.follow((home + share * np.array([0.4, 0, 0, 0, 0, 0]))[None], frames=False)
        goal = home + np.array([0.4, 0, 0, 0, 0, 0])
        time.sleep(1.2 * model.watchdog_s)  # as if the process had been stopped and let go on
        body.follow(goal[None], frames=False)
        written = [one["count"] for one in each.ask({"goals": 6})["goals"]]
        np.testing.assert_allclose(written, counts_of(model, goal), atol=3)
        assert abs(body.measured_rad[0] - each.truth()["joints"]["shoulder_pan"]) < 0.05


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"control_hz": 0.0}, r"control_hz cannot be 0; .* takes 50, 25, 12.5, 10, .* commands a second"),
        ({"control_hz": float("nan")}, "control_hz cannot be nan"),
        ({"control_hz": 1e-9}, "control_hz cannot be 1e-09"),
        ({"control_hz": 30.0}, "control_hz cannot be 30"),
        ({"episode_s": 0.0}, "episode_s cannot be 0"),
        ({"size": 0, "cameras": {"front": 0}}, "size cannot be 0; frames have 16 to 2160 pixels a side"),
    ],
)
def test_a_rate_a_time_or_a_size_that_cannot_be_is_said_before_anything_is_opened(
    kind: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(HardwareError, match=words):
        ROBOTS[kind].make(port="/dev/nothing", calibration="/nowhere.json", stage="nowhere", **options)


def test_an_arm_has_the_cameras_that_are_named(kind: str, each: Emulator, tmp_path: Path) -> None:
    path = str(tmp_path / "camera.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 64))
    for brightness in range(60):
        writer.write(np.full((64, 64, 3), brightness, np.uint8))
    writer.release()
    name, options = {"so101": ("front", {}), "koch": ("desk", {"fovy_deg": 50.0})}[kind]
    cameras = {name: {"source": path, "loop": True, "stale_s": 2.0}}
    with opened(kind, each, tmp_path, cameras=cameras, size=32, **options) as robot:
        assert [(camera.name, camera.width) for camera in robot.spec.cameras] == [(name, 32)]
        assert robot.spec.cameras[0].fovy_deg == options.get("fovy_deg", 32.5)
        assert robot.observe(frames=True).frames[name].shape == (32, 32, 3)


def test_an_episode_waits_for_a_camera_that_has_stalled_but_not_for_ever(
    kind: str, each: Emulator, tmp_path: Path
) -> None:
    name, options = {"so101": ("front", {}), "koch": ("desk", {"fovy_deg": 50.0})}[kind]
    with (
        MotionJpegServer(size=(64, 64)) as camera,
        opened(kind, each, tmp_path, cameras={name: camera.url}, size=32, **options) as robot,
    ):
        begin(robot)  # it is at home, and quickly there again
        for back_after_s, seen in ((1.0, [name]), (30.0, [])):
            camera.fault = "stall"
            until(lambda: name not in robot.observe(frames=True).frames)
            back = threading.Timer(back_after_s, lambda: setattr(camera, "fault", ""))
            back.start()
            began_s = time.monotonic()
            assert list(robot.reset(0, robot.spec.tasks[0]).frames) == seen
            assert time.monotonic() - began_s < 20
            back.cancel()


def test_a_bus_that_is_lost_while_the_scene_is_laid_out_calls_the_stage_off(kind: str, tmp_path: Path) -> None:
    class Slow(NoStage):
        """A person who takes their time; two of them at once would share one terminal."""

        def __init__(self) -> None:
            self.asking, self.called_off, self.waits = threading.Event(), threading.Event(), 0

        def begin(self, seed: int, task: str) -> str:
            self.waits += 1
            self.called_off.clear()
            self.asking.set()
            self.called_off.wait(30)
            self.waits -= 1
            raise StageError("stopped before the scene was laid out")

        def cancel(self) -> None:
            self.called_off.set()

    with Emulator(vendor=VENDORS[kind], seed=4, no_cameras=True) as mine:
        mine.calibration(tmp_path / "arm.json")
        arm, stage = ROBOTS[kind].ARM, Slow()
        calibration = Calibration.load(tmp_path / "arm.json", arm)
        with closing(ServoArm(arm, Parts(mine.port, calibration, {}, stage), episode_s=30.0)) as body:
            threading.Thread(
                target=lambda: stage.asking.wait(30) and mine.ask({"fault": {"kind": "unplugged"}}), daemon=True
            ).start()
            with pytest.raises(HardwareError, match="gone"):
                body.reset(0, arm.tasks[0])
            assert stage.waits == 0


def test_what_fails_to_close_keeps_nothing_else_open(kind: str, each: Emulator, tmp_path: Path) -> None:
    class Stubborn(NoStage):
        def close(self) -> None:
            raise HardwareError("the stage does not close")

    model = ROBOTS[kind].ARM
    calibration = Calibration.load(each.calibration(tmp_path / "arm.json"), model)
    body = ServoArm(model, Parts(each.port, calibration, {}, Stubborn()), episode_s=60.0)
    with pytest.raises(HardwareError, match="the stage does not close"):
        body.close()
    bus_of(kind, each).close()  # the port is free


def test_servos_of_another_model_and_two_of_one_id_are_each_named(each: Emulator, kind: str) -> None:
    model = ROBOTS[kind].ARM
    others = {777: 1060, 1060: 1200, 1200: 1060}
    wrong = replace(model, joints=tuple(replace(j, model=others[j.model]) if j.id < 3 else j for j in model.joints))
    wrong = replace(wrong, vendor=replace(model.vendor, models={**DYNAMIXEL.models, **model.vendor.models}))
    bus = Bus(wrong.vendor, each.port, model.ids)
    with pytest.raises(ServoError, match=r"shoulder_pan: servo 1 is a .*; (so101|koch) has a X.* there") as error:
        greet(bus, wrong)
    assert "shoulder_lift" in str(error.value) and "elbow_flex" not in str(error.value)
    bus.close()


def test_an_arm_that_was_never_set_up_is_sent_to_setup(tmp_path: Path) -> None:
    with Emulator(state="fresh", seed=3, no_cameras=True) as emulated:
        bus = Bus(SO101.vendor, emulated.port, SO101.ids)
        with pytest.raises(ServoError, match=r"shoulder_pan: two servos .* id 1: .*embodied setup") as error:
            greet(bus, SO101)
        assert "gripper: no servo with id 6" in str(error.value)
        bus.close()


class TestSO101:
    """What only the SO-101 has: the simulator's twin, a scene, unplugging."""

    @pytest.fixture(scope="class")
    @classmethod
    def emulated(cls) -> Iterator[Emulator]:
        with Emulator(seed=4, no_cameras=True) as emulated:
            yield emulated

    def test_a_checkpoint_of_the_simulator_fits_it(self) -> None:
        from envs.so101 import make

        simulated = make(render=False).spec
        spec = SO101.spec()
        assert simulated.differences(spec) == []
        assert (simulated.limits, simulated.skills, simulated.tasks) == (spec.limits, spec.skills, spec.tasks)
        assert tuple(SO101.home_rad) == tuple(__import__("envs.so101").so101.HOME_RAD)

    def test_the_stage_lays_out_the_scene_and_says_when_it_is_done(self, emulated: Emulator, tmp_path: Path) -> None:
        with opened("so101", emulated, tmp_path, stage=f"unix:{emulated.control}") as robot:
            observation = robot.reset(7, "reach")
            assert len(observation.instruction.split()) > 2
            assert emulated.truth()["objects"]
            with pytest.raises(UnknownNameError, match="pick_place"):
                robot.reset(7, "juggle")

    def test_an_episode_ends_when_its_time_is_over(self, emulated: Emulator, tmp_path: Path) -> None:
        with opened("so101", emulated, tmp_path, episode_s=0.5) as robot:
            begin(robot)
            steps = [robot.step(pose(SO101)) for _ in range(20) if not robot.body._truncated]
            assert steps[-1].truncated and not steps[-1].terminated and len(steps) < 10

    def test_unplugged_it_says_so_and_plugged_in_again_it_goes_on(self, emulated: Emulator, tmp_path: Path) -> None:
        with opened("so101", emulated, tmp_path) as robot:
            begin(robot)
            emulated.ask({"fault": {"kind": "unplugged", "for_s": 4.0}})
            with pytest.raises(BusLostError, match=emulated.port):
                for _ in range(20):
                    robot.step(pose(SO101))
            with pytest.raises(HardwareError):
                begin(robot)
            until(lambda: Path(emulated.port).exists())
            begin(robot)
            assert not robot.step(pose(SO101)).done

    def test_what_is_wrong_with_the_servos_is_all_said_and_nothing_moves(
        self, emulated: Emulator, tmp_path: Path
    ) -> None:
        with opened("so101", emulated, tmp_path):
            pass
        written = emulated.truth()["goals_written"]
        emulated.ask({"attach": [name for name in SO101.names if name not in ("elbow_flex", "gripper")]})
        with (
            pytest.raises(ServoError, match="elbow_flex: no servo with id 3") as error,
            opened("so101", emulated, tmp_path),
        ):
            pass
        assert "gripper: no servo with id 6" in str(error.value)
        emulated.ask({"attach": "all"})
        assert emulated.truth()["goals_written"] == written

    def test_another_arms_servos_are_told_apart(self, tmp_path: Path) -> None:
        with Emulator(seed=9, no_cameras=True) as other, Emulator(seed=4, no_cameras=True) as mine:
            with opened("so101", mine, tmp_path):
                pass
            with pytest.raises(HardwareError, match="calibrat"), opened("so101", other, tmp_path):
                pass
            assert not any(other.truth()["torque"].values())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"port": "/dev/nothing"}, "no port /dev/nothing"),
            ({"cameras": {"top": 0}}, r"no camera 'top'; so101 has \['front', 'wrist'\]"),
            ({"stage": "here"}, "no stage 'here'"),
            ({"calibration": "/nowhere.json"}, "/nowhere.json"),
        ],
    )
    def test_a_bad_option_is_one_clear_line(
        self, options: dict[str, object], words: str, emulated: Emulator, tmp_path: Path
    ) -> None:
        with pytest.raises(EmbodiedError, match=words), opened("so101", emulated, tmp_path, **options):
            pass

    def test_options_come_from_the_command_line_as_they_are(self, emulated: Emulator, tmp_path: Path) -> None:
        given = {"port": emulated.port, "cameras": {}, "stage": "none", "control_hz": 10, "episode_s": 3}
        assert check_options("embodied.robots.so101", so101.make, given) == given
        with opened("so101", emulated, tmp_path):
            pass
        robot = open_robot("embodied.robots.so101", {**given, "calibration": str(tmp_path / "so101.json")})
        assert robot.spec.realtime and isinstance(robot, RealTimeRobot)
        robot.close()
        robot.close()
        Bus(SO101.vendor, emulated.port).close()  # the port is free again

    def test_a_command_beyond_the_range_is_limited_and_said(self, emulated: Emulator, tmp_path: Path) -> None:
        with opened("so101", emulated, tmp_path) as robot:
            begin(robot)
            emulated.ask({"truth": "reset"})
            step = robot.step(PoseAction(np.full(6, 9.0, np.float32)))
            assert {i.kind for i in step.interventions} >= {"position"}
            step = robot.step(PoseAction(np.full(6, np.nan, np.float32)))
            assert "non_finite" in {i.kind for i in step.interventions}
            assert emulated.truth()["goals_outside"] == 0

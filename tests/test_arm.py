"""Real arms' drivers on emulated servos: what a policy meets, what reaches the servos, and when the arm stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import EmbodiedError, HardwareError, ProtocolError, UnknownNameError
from embodied.hardware.bus import Bus, BusLostError, ServoError
from embodied.hardware.dynamixel import DYNAMIXEL
from embodied.hardware.opening import greet
from embodied.hardware.port import PortError
from embodied.modules import check_options, open_robot
from embodied.realtime import RealTimeRobot
from embodied.robots import so101
from embodied.types import PoseAction, SkillCall, TextAction
from tests.emulated_arm import RAD, ROBOTS, VENDORS, opened, pose, travelled, until
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


def test_a_second_host_on_the_port_is_told_and_the_first_goes_on(
    arm: RealTimeRobot, each: Emulator, kind: str, tmp_path: Path
) -> None:
    begin(arm)
    with pytest.raises(PortError, match="in use by another process"), opened(kind, each, tmp_path):
        pass
    assert not arm.step(pose(ROBOTS[kind].ARM)).done


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

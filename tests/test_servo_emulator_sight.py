"""The emulated arm's cameras and stage show and judge what the simulator would."""

import json
import socket
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from embodied.errors import HardwareError
from embodied.hardware.bus import Bus
from embodied.hardware.calibration import Calibration
from embodied.robots.so101 import ARM
from envs.cameras import Cameras
from envs.scene import JOINTS
from envs.so101 import HOME_RAD, SO101, STEPS_OF_SUCCESS
from envs.tasks.reach import TASK as REACH
from tests.servo_emulator import stage
from tests.servo_emulator.process import Emulator


@pytest.fixture(scope="module")
def arm():
    with Emulator(seed=5, size="96", fps=20) as arm:
        yield arm


@pytest.fixture
def simulator():
    robot = SO101(size=96, misdirect=False, render=False)
    yield robot
    robot.close()


def parts(stream):
    """Yield the frames of an MJPEG stream, (height, width, 3) BGR."""
    while True:
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if not length:
            return
        yield cv2.imdecode(np.frombuffer(stream.read(length), np.uint8), cv2.IMREAD_COLOR)
        stream.readline()


def test_the_same_seed_lays_out_the_simulators_scene(arm, simulator):
    assert stage.STEPS_OF_SUCCESS == STEPS_OF_SUCCESS
    arm.ask({"hand": dict(zip(JOINTS, HOME_RAD.tolist(), strict=True)), "over_s": 0.5})  # out of the objects' way
    for task in ("pick_place", "stack", "push", "reach"):
        seen = simulator.reset(1_000_007, task)
        assert arm.ask({"begin": {"seed": 1_000_007, "task": task}})["instruction"] == seen.instruction
        objects = arm.truth()["objects"]
        assert sorted(objects) == sorted(item.name for item in simulator.scene.shown.items)
        for name, position in objects.items():
            assert position == pytest.approx(simulator.scene.position(name), abs=1e-3)


def test_the_cameras_show_what_the_simulator_draws(arm, simulator):
    arm.ask({"begin": {"seed": 3, "task": "pick_place"}})
    simulator.reset(3, "pick_place")
    scene = simulator.scene
    scene.data.qpos[scene._joint_qpos] = list(arm.truth()["joints"].values())
    scene.refresh()
    drawn = Cameras(scene.model, 96).draw(scene.data, ("front", "wrist"))
    for name, url in arm.cameras.items():
        capture = cv2.VideoCapture(url)
        for _ in range(3):
            good, frame = capture.read()
            assert good
        capture.release()
        difference = np.abs(frame[:, :, ::-1].astype(int) - drawn[name])
        assert difference.mean() < 3, name


def test_a_stalled_camera_stays_open_and_sends_nothing_and_a_lost_one_hangs_up(arm):
    stream = urlopen(arm.cameras["front"], timeout=10)
    frames = parts(stream)
    next(frames)
    arm.ask({"fault": {"kind": "stalled_camera", "camera": "front", "for_s": 1.0}})
    time.sleep(0.2)
    with urlopen(arm.cameras["wrist"], timeout=10) as other:
        assert next(parts(other)).shape == (96, 96, 3)
    began = time.monotonic()
    for _ in range(3):  # those that were on their way
        next(frames)
    assert time.monotonic() - began > 0.3
    arm.ask({"fault": {"kind": "lost_camera", "camera": "front"}})
    for _ in frames:
        pass
    with pytest.raises(HTTPError, match="503"):
        urlopen(arm.cameras["front"], timeout=10)
    arm.ask({"clear": True})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with urlopen(arm.cameras["front"], timeout=10) as stream:
                assert next(parts(stream)).shape == (96, 96, 3)
                return
        except HTTPError:
            time.sleep(0.05)
    pytest.fail("the camera did not come back")


def test_a_frame_need_not_be_square():
    with Emulator(size="64x48") as arm, urlopen(arm.cameras["wrist"], timeout=20) as stream:
        assert next(parts(stream)).shape == (48, 64, 3)


def test_the_stage_says_when_the_task_has_succeeded(arm, simulator):
    simulator.reset(11, "reach")
    goal = np.array(REACH.goal_position(simulator.scene))
    pose = closest(simulator, goal)
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(arm.control)
        control.settimeout(20)
        lines = control.makefile("rw")
        lines.write(json.dumps({"begin": {"seed": 11, "task": "reach"}}) + "\n")
        lines.flush()
        assert "instruction" in json.loads(lines.readline())
        assert arm.truth()["success"] is None
        clear = dict(zip(JOINTS, (pose[0], -1.2, 0.6, 0.9, 0.0, 0.3), strict=True))
        arm.ask({"hand": clear, "over_s": 0.5})
        arm.ask({"hand": dict(zip(JOINTS, pose, strict=True)), "over_s": 0.8})
        assert json.loads(lines.readline()) == {"outcome": True}
    assert arm.truth()["success"] is True
    arm.ask({"hand": clear, "over_s": 0.5})
    arm.ask({"hand": "release"})


def closest(simulator, goal):
    """Return joints (6,) rad with the fingertips at goal (3,), by a damped search over the chain."""
    joints = np.array([np.arctan2(goal[1], goal[0] - 0.0388), -0.8, 0.6, 1.0, 0.0, 0.3])
    tip = simulator.tool_position
    for _ in range(200):
        jacobian = np.array([(tip(joints + 1e-4 * row) - tip(joints)) / 1e-4 for row in np.eye(6)[:4]]).T
        joints[:4] += np.linalg.solve(jacobian.T @ jacobian + 1e-4 * np.eye(4), jacobian.T @ (goal - tip(joints)))
    assert np.linalg.norm(tip(joints) - goal) < 0.005
    return [float(q) for q in joints]


def test_the_calibration_it_writes_is_of_this_arm_and_of_no_other(arm, tmp_path: Path):
    mine = Calibration.load(arm.calibration(tmp_path / "mine.json"), ARM)
    bus = Bus(ARM.vendor, arm.port, ARM.ids)
    mine.check(bus, ARM)
    bus.close()
    with Emulator(seed=6, no_cameras=True) as other:
        bus = Bus(ARM.vendor, other.port, ARM.ids)
        with pytest.raises(HardwareError, match="homing_offset"):
            mine.check(bus, ARM)
        bus.close()

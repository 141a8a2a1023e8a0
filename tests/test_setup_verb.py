"""A new arm's servos get their ids one at a time: what is plugged in is looked at before anything is written."""

from contextlib import closing

import pytest

from embodied.hardware.bus import Bus
from embodied.robots.so101 import ARM
from tests.guided import Guided, verb
from tests.servo_emulator.process import Emulator

ROBOT = "embodied.robots.so101"
QUICK = ("--baud", "1000000")  # where these emulated servos answer as they come from the box


@pytest.fixture(scope="module")
def box():
    with Emulator(seed=3, state="fresh", no_cameras=True) as emulated:
        yield emulated


def test_a_wrong_plug_is_named_and_asked_for_again(box):
    with Guided("setup", ROBOT, "--port", box.port, "--joint", "gripper", *QUICK) as guided:
        guided.sees("1 of 1: connect the servo of gripper alone, with power, then press Enter:")
        box.ask({"attach": ["gripper", "wrist_roll"]})  # both have id 1, as all do from the box
        guided.enter()
        guided.sees("not yet: answers collide: several servos have one id; leave one alone on the bus")
        box.ask({"attach": []})
        guided.enter()
        guided.sees("not yet: no servo answers at any id: look at its power supply and its cable")
        box.ask({"attach": ["gripper"]})
        guided.enter()
        guided.sees("gripper: this STS3215 had id 1 at 1000000 baud, and has id 6 at 1000000 baud now")
        assert guided.end() == 0
    with closing(Bus(ARM.vendor, box.port)) as bus:
        assert (bus.get(6, "return_delay"), bus.get(6, "lock")) == (0, 1)
    box.ask({"attach": ["gripper", "wrist_roll"]})  # now with two ids
    status, shown = verb("setup", ROBOT, "--port", box.port, "--joint", "wrist_roll", *QUICK, answers=[""])
    assert status == 2
    last = shown.strip().splitlines()[-1]
    assert last == "error: 2 servos answer: id 1 at 1000000 baud, id 6 at 1000000 baud; leave one alone on the bus"


def test_what_is_set_up_already_is_left_alone(box):
    box.ask({"attach": ["shoulder_lift"]})
    again = ["setup", ROBOT, "--port", box.port, "--joint", "shoulder_lift", *QUICK]
    assert verb(*again, answers=[""])[0] == 0
    with closing(Bus(ARM.vendor, box.port)) as bus:
        bus.set(2, "return_delay", 250)
    status, shown = verb(*again, answers=[""])
    assert status == 0
    assert "shoulder_lift: this STS3215 has id 2 at 1000000 baud already" in shown
    with closing(Bus(ARM.vendor, box.port)) as bus:
        assert bus.get(2, "return_delay") == 0


def test_a_servo_of_another_model_and_baud_rate(box):
    with Emulator(seed=3, state="fresh", vendor="dynamixel", no_cameras=True) as dynamixels:
        dynamixels.ask({"attach": ["gripper"]})
        arguments = ["setup", "embodied.robots.koch", "--port", dynamixels.port, "--baud", "57600"]
        status, shown = verb(*arguments, "--joint", "shoulder_pan", answers=[""])
        assert status == 2
        assert "this servo is a XL330-M288; shoulder_pan of koch has a XL430-W250" in shown
        status, shown = verb(*arguments, "--joint", "gripper", answers=[""])
        assert status == 0
        assert "gripper: this XL330-M288 had id 1 at 57600 baud, and has id 6 at 1000000 baud now" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--joint", "elbow"), "no joint 'elbow'; so101 has ['elbow_flex', 'gripper', 'shoulder_lift',"),
        (("--baud", "1234"), "no baud rate 1234; feetech has [19200, 38400,"),
        (("--baud", "fast"), "must be a whole number"),
    ],
)
def test_a_mistake_is_one_line(box, arguments, says):
    status, shown = verb("setup", ROBOT, "--port", box.port, *arguments)
    assert status == 2
    assert says in shown.strip()
    assert "\n" not in shown.strip()


@pytest.mark.slow
def test_all_servos_of_an_arm_one_after_the_other():
    with Emulator(seed=5, state="fresh", no_cameras=True) as box, Guided("setup", ROBOT, "--port", box.port) as guided:
        for joint in ("gripper", "wrist_roll", "wrist_flex", "elbow_flex", "shoulder_lift", "shoulder_pan"):
            guided.sees(f"connect the servo of {joint} alone")
            box.ask({"attach": [joint]})
            guided.enter()
            guided.sees("baud now" if joint != "shoulder_pan" else "already", 120.0)
        guided.sees("Connect all servos")
        guided.enter()
        guided.sees("not yet: the servos on")  # only the last one is connected
        box.ask({"attach": "all"})
        guided.enter()
        guided.sees("so101 is set up: 6 servos answer at 1000000 baud")
        guided.sees(f"next: embodied calibrate {ROBOT} --port {box.port}")
        assert guided.end() == 0

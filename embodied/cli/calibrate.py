"""Calibrate an arm, guided: hold it in its middle pose, then move every joint from stop to stop.

The servos' homing offsets and limits are set, and kept in a file beside who the servos are; an arm whose servos differ
from its file does not move. What is not finished is undone, but the motors stay off. Exits with 0 when done, 2 if it
could not be.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np

from embodied.cli.arms import add_arm, arm_of, port_of
from embodied.cli.prompt import InputEndedError, Prompt
from embodied.cli.sweep_table import SweepTable
from embodied.hardware.arm import ArmModel
from embodied.hardware.bus import Bus, Found
from embodied.hardware.calibration import Calibration, CalibrationError, Counts, JointCalibration, default_path
from embodied.hardware.eeprom import Settings
from embodied.hardware.opening import greet, read_patiently
from embodied.hardware.sweep import Fitted, Sweep, actual_of

EXAMPLE = """example:
  embodied calibrate embodied.robots.so101
  embodied calibrate embodied.robots.so101 --port /dev/ttyACM1 --out leader.json
"""

AGAIN = "again"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_S = 0.02
MAY_SWING = 300  # counts that a limp arm may move between two readings half a second apart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arm and where its calibration goes."""
    add_arm(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default ~/.config/embodied/ROBOT.json")


def run(args: argparse.Namespace) -> int:
    """Guide a person through the calibration, write it, and say where it is."""
    arm, port = arm_of(args), port_of(args)
    path = args.out or default_path(arm.name)
    if path.is_dir():
        raise CalibrationError(f"--out {path} is a folder; name a file, as in {path / arm.name}.json")
    with closing(Bus(arm.vendor, port, arm.ids, baud=arm.baud)) as bus:
        found = greet(bus, arm)
        settings = Settings(bus)
        with _left_as_it_was(bus, arm, settings, path):
            prompt = Prompt()
            _relax(bus, arm, prompt)
            settings.settle()  # whoever used the servos before may have had them count otherwise,
            for servo in bus.ids:
                bus.set(servo, "return_delay", 0)  # and from the factory they answer late
            fitted = _measure(bus, arm, settings, prompt)
            _write(bus, arm, settings, fitted)
            kept = _keep(path)
            _calibration(arm, found, fitted).save(path)
    print(f"{arm.name} is calibrated: written to its servos and to {path}")
    if kept is not None:
        print(f"the calibration that was there is kept in {kept}")
    where = "" if path == default_path(arm.name) else f" --option calibration={path}"
    print(f"its motors stay off until it is opened: embodied host {args.robot} --option port={port}{where}")
    return 0


def _relax(bus: Bus, arm: ArmModel, prompt: Prompt) -> None:
    print(f"{arm.name} on {bus.name}: {len(arm.joints)} servos answer, as they should.")
    prompt.ask("Its motors go limp now, and it drops where nobody holds it. Support it, then press Enter:")
    bus.set_torque(False)


def _measure(bus: Bus, arm: ArmModel, settings: Settings, prompt: Prompt) -> Mapping[str, Fitted]:
    """Have the arm held and moved until every joint fits its kind; return what the servos are to hold."""
    loose = [joint.name for joint in arm.joints if not joint.stops]
    zero = f" ({', '.join(loose)}: at zero)" if loose else ""
    prompt.ask(f"1 of 2: hold every joint in the middle of its range{zero}, then press Enter:")
    sweep = Sweep(arm, _actual(bus, settings))
    but = f" but {', '.join(loose)}" if loose else ""
    print(f"2 of 2: move every joint{but} slowly from stop to stop. Press Enter when each says ok.", flush=True)
    table = SweepTable(arm)
    while True:
        try:
            line = prompt.poll(LOOK_S)
        except InputEndedError as error:
            wrong = "; ".join(f"{name} {what}" for name, what in sweep.misfits().items())
            raise CalibrationError(f"{error}{f': {wrong}' if wrong else ''}") from None
        sweep.see(_actual(bus, settings), time.monotonic())
        table.show(sweep)
        if line == AGAIN:
            sweep.begin()
            table.say("begun anew")
        elif line is not None:
            if not (misfits := sweep.misfits()):
                return sweep.fitted()
            table.say(f"not yet: {'; '.join(f'{name} {what}' for name, what in misfits.items())}.")
            table.say(f"Go on, then press Enter; or type {AGAIN} to begin the sweep anew.")


def _actual(bus: Bus, settings: Settings) -> Counts:
    """Return the encoders' own counts (n,)."""
    offsets = np.array([settings.before[servo]["homing_offset"] for servo in bus.ids], np.int64)
    return actual_of(bus.vendor, read_patiently(bus).position, offsets)


def _write(bus: Bus, arm: ArmModel, settings: Settings, fitted: Mapping[str, Fitted]) -> None:
    """Write what was found, and look whether the servos now say what they should."""
    actual = _actual(bus, settings)
    settings.write({joint.id: fitted[joint.name] for joint in arm.joints})
    offsets = np.array([fitted[name].homing_offset for name in arm.names], np.int64)
    turn = arm.vendor.counts_a_turn
    off = (actual_of(arm.vendor, read_patiently(bus).position, offsets) - actual + turn // 2) % turn - turn // 2
    for name, counts in zip(arm.names, off.tolist(), strict=True):
        if abs(counts) > MAY_SWING:
            raise CalibrationError(
                f"{name} is {counts} counts from where its new homing offset should put it; hold the arm still while "
                f"it is written, and calibrate again"
            )


def _keep(path: Path) -> Path | None:
    """Copy the calibration that is about to be replaced, if there is one, and return where to."""
    if not path.exists():
        return None
    kept = path.with_name(f"{path.name}.bak")
    try:
        shutil.copyfile(path, kept)
    except OSError as error:
        raise CalibrationError(f"cannot keep the calibration {path} as {kept}: {error.strerror}") from error
    return kept


def _calibration(arm: ArmModel, found: tuple[Found, ...], fitted: Mapping[str, Fitted]) -> Calibration:
    joints = {}
    for joint, servo in zip(arm.joints, found, strict=True):
        its = fitted[joint.name]
        joints[joint.name] = JointCalibration(
            servo.id, servo.model, servo.firmware, its.homing_offset, its.low_count, its.high_count
        )
    return Calibration(arm.name, datetime.now().astimezone().isoformat(timespec="seconds"), joints)


@contextmanager
def _left_as_it_was(bus: Bus, arm: ArmModel, settings: Settings, path: Path) -> Iterator[None]:
    """Put the servos' settings back when the block does not come to its end, and say what state they are in."""
    try:
        yield
    except BaseException:
        with _undisturbed():
            lost = settings.restore() if settings.touched else []
        print(f"\n{_state(arm, lost)}", file=sys.stderr)
        if path.exists():
            print(f"{path} is as it was", file=sys.stderr)
        raise


def _state(arm: ArmModel, lost: list[int]) -> str:
    if not lost:
        return f"the calibration was not finished: {arm.name}'s servos keep their settings, and their motors may be off"
    names = [joint.name for joint in arm.joints if joint.id in lost]
    return (
        f"the calibration was not finished, and {', '.join(names)} could not be given the old settings back: do not "
        f"move {arm.name} before it is calibrated again"
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C, or a terminal that closes, wait until the servos have their settings back."""
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in ENDING}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

"""Calibration: what makes one arm's counts the joint angles of its kind; a file, compared with the servos at start."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import HardwareError
from embodied.hardware.arm import ArmModel, Joint
from embodied.hardware.bus import Bus

Counts = NDArray[np.int64]
Array = NDArray[np.float64]

FORMAT = "embodied calibration 1"
# A file's number and the register that must hold it; what says who the servo is comes first.
REGISTERS = {"homing_offset": "homing_offset", "low_count": "min_position", "high_count": "max_position"}


class CalibrationError(HardwareError):
    """A calibration that is missing, damaged, or of another arm than the one that is connected."""


@dataclass(frozen=True)
class JointCalibration:
    """One joint: which servo turns it, and where its range lies in counts, homing offset included."""

    id: int
    model: int
    firmware: str
    homing_offset: int
    low_count: int
    high_count: int


@dataclass(frozen=True)
class Calibration:
    """An arm's calibration."""

    robot: str
    made: str  # when, ISO 8601 with its offset from UTC
    joints: Mapping[str, JointCalibration]

    @classmethod
    def load(cls, path: Path | str, arm: ArmModel) -> Calibration:
        """Read a calibration for an arm of this kind; raise CalibrationError, saying what is wrong and what to do."""
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CalibrationError(f"{arm.name} has no calibration at {path}; {_mend(arm)}") from None
        except (OSError, ValueError) as error:
            raise CalibrationError(f"cannot read the calibration {path}: {error}; {_mend(arm)}") from error
        if wrong := list(_faults(data, arm)):
            raise CalibrationError(f"{path} is no calibration of {arm.name}: {'; '.join(wrong)}; {_mend(arm)}")
        joints = {name: JointCalibration(**data["joints"][name]) for name in arm.names}
        return cls(data["robot"], data["made"], joints)

    def save(self, path: Path | str) -> None:
        """Write the file, whole or not at all; raise CalibrationError where that cannot be."""
        path = Path(path)
        data: dict[str, Any] = {"format": FORMAT, "robot": self.robot, "made": self.made}
        data |= {"joints": {name: asdict(joint) for name, joint in self.joints.items()}}
        file = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                json.dump(data, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.chmod(file.name, 0o644)  # a temporary file is for its owner alone
            os.replace(file.name, path)
        except OSError as error:
            if file is not None:
                Path(file.name).unlink(missing_ok=True)
            raise CalibrationError(f"cannot write the calibration {path}: {error.strerror}") from error

    def range_rad(self, arm: ArmModel) -> tuple[Array, Array]:
        """Return the lower and upper ends (n,) of the joints' ranges, rad."""
        joints = [self.joints[name] for name in arm.names]
        ends = np.array([[one.low_count for one in joints], [one.high_count for one in joints]])
        low, high = np.sort([radians_of(arm, ends[0]), radians_of(arm, ends[1])], axis=0)
        return low, high

    def check(self, bus: Bus, arm: ArmModel) -> None:
        """Compare the file with the servos on the bus; nothing is written.

        Raise CalibrationError, listing all differences, unless they are those of the file.
        """
        if wrong := [line for joint in arm.joints for line in self._differences(bus, joint.name)]:
            lines = "".join(f"\n  - {line}" for line in wrong)
            raise CalibrationError(
                f"the calibration of {self.made} is not of the {arm.name} on {bus.name}; nothing moves:{lines}\n"
                f"choose the file of this arm, or {_mend(arm, bus.name)}"
            )

    def _differences(self, bus: Bus, name: str) -> Iterator[str]:
        joint = self.joints[name]
        found = bus.ping(joint.id)
        if found is None:
            yield f"{name}: no servo with id {joint.id} answers"
            return
        for what in ("model", "firmware"):
            if getattr(found, what) != getattr(joint, what):
                yield f"{name}: {what} is {getattr(found, what)}, the calibration has {getattr(joint, what)}"
        for what, register in REGISTERS.items():
            if (held := bus.get(joint.id, register)) != getattr(joint, what):
                yield f"{name}: {register} is {held}, the calibration has {getattr(joint, what)}"


def counts_of(arm: ArmModel, rad: Array) -> Counts:
    """Return the counts (n,), homing offsets included, at joint angles rad (n,)."""
    turns = np.asarray(rad) / (2 * np.pi) * _directions(arm)
    counts: Counts = np.rint(arm.vendor.middle + turns * arm.vendor.counts_a_turn).astype(np.int64)
    return counts


def radians_of(arm: ArmModel, counts: Counts) -> Array:
    """Return the joint angles (n,) in rad at counts (n,), homing offsets included."""
    turns = (np.asarray(counts, np.float64) - arm.vendor.middle) / arm.vendor.counts_a_turn
    return np.asarray(turns * 2 * np.pi * _directions(arm))


def default_path(robot: str) -> Path:
    """Return where the calibration of a robot is looked for: $XDG_CONFIG_HOME/embodied/ROBOT.json."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "embodied" / f"{robot}.json"


def _directions(arm: ArmModel) -> Array:
    return np.array([joint.direction for joint in arm.joints], np.float64)


def _mend(arm: ArmModel, port: str = "") -> str:
    return f"calibrate it: embodied calibrate {arm.module}{f' --port {port}' if port else ''}"


def _faults(data: Any, arm: ArmModel) -> Iterator[str]:  # noqa: ANN401 - whatever a file may hold
    """Yield what keeps the content of a file from being a calibration of the arm."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        yield f"it does not begin with format {FORMAT!r}"
        return
    if data.get("robot") != arm.name:
        yield f"it is of robot {data.get('robot')!r}"
    if not isinstance(data.get("made"), str):
        yield "it does not say when it was made"
    joints = data.get("joints")
    if not isinstance(joints, dict) or set(joints) != set(arm.names):
        yield f"it has joints {sorted(joints) if isinstance(joints, dict) else joints!r}, not {sorted(arm.names)}"
        return
    for joint in arm.joints:
        if fault := _joint_fault(joints[joint.name], joint, arm.vendor.counts_a_turn):
            yield f"joint {joint.name} {fault}"


def _joint_fault(data: Any, joint: Joint, counts_a_turn: int) -> str:  # noqa: ANN401
    """Return what keeps a joint's part of a file from being one, empty if nothing."""
    types = {f.name: f.type for f in fields(JointCalibration)}
    if not isinstance(data, dict) or {key: type(value).__name__ for key, value in data.items()} != types:
        return f"has not the numbers {list(types)}"
    if (data["id"], data["model"]) != (joint.id, joint.model):
        return f"is servo {data['id']} of model {data['model']}, not {joint.id} of {joint.model}"
    if not 0 <= data["low_count"] < data["high_count"] < counts_a_turn:
        return f"has the range {data['low_count']}..{data['high_count']}"
    return ""

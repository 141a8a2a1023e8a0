"""The calibration of the emulated arm, written as `embodied calibrate` would have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.servo_emulator.servo import Servo

ROBOTS = {"feetech": "so101", "dynamixel": "koch"}


def write_calibration(path: str | Path, vendor: str, servos: Sequence[Servo]) -> None:
    """Write what the servos' EEPROM holds as a calibration file."""
    from embodied.hardware.calibration import Calibration, JointCalibration  # its vendor SDKs are not the emulator's

    joints = {
        servo.joint: JointCalibration(
            id=servo.id,
            model=servo.kind.model,
            firmware=servo.firmware,
            homing_offset=servo.memory.get("homing_offset"),
            low_count=servo.memory.get("min_position"),
            high_count=servo.memory.get("max_position"),
        )
        for servo in servos
    }
    Calibration(ROBOTS[vendor], datetime.now(UTC).isoformat(timespec="seconds"), joints).save(Path(path))

"""What the doctor finds of real arms and cameras: serial ports and video devices, and whether they may be opened."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator

from embodied.cli.finding import Finding


def examine_hardware() -> Iterator[Finding]:
    """Yield what is plugged in; none of it is needed for a simulation."""
    yield serial_ports()
    yield cameras()


def serial_ports() -> Finding:
    """Return the serial ports that an arm can be behind."""
    name = "serial ports"
    try:
        from serial.tools import list_ports
    except ModuleNotFoundError:
        mend = f"{sys.executable} -m pip install -c constraints.txt 'embodied-runtime[hardware]'"
        return Finding(name, "not looked for: no pyserial", False, False, mend)
    found = [port for port in list_ports.comports() if port.vid is not None]  # without: the machine's own, or none
    if not found:
        return Finding(name, "none; an arm's servo adapter shows up as /dev/ttyACM0 or /dev/ttyUSB0", True, False)
    shut = [port.device for port in found if not os.access(port.device, os.R_OK | os.W_OK)]
    said = ", ".join(f"{p.device} ({p.description}, {p.vid:04x}:{p.pid:04x}{_no(p.device in shut)})" for p in found)
    return Finding(name, said, not shut, False, _join_group("dialout") if shut else "")


def cameras() -> Finding:
    """Return the video devices that give pictures."""
    from embodied.cameras.found import devices

    found = devices()
    if not found:
        return Finding("cameras", "none; a USB camera shows up as /dev/video0", True, False)
    said = ", ".join(f"{device}{_no(not device.may_open)}" for device in found)
    ok = all(device.may_open for device in found)
    return Finding("cameras", said, ok, False, "" if ok else _join_group("video"))


def _no(shut: bool) -> str:
    return ", no permission" if shut else ""


def _join_group(group: str) -> str:
    return f"sudo usermod -aG {group} {getpass.getuser()}, then log in again"

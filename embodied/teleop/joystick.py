"""A joystick by Linux's joystick interface: 8-byte events read from /dev/input/js0, without a library.

Source: the kernel's include/uapi/linux/joystick.h (struct js_event, JSIOCGAXMAP, JSIOCGBTNMAP) and
include/uapi/linux/input-event-codes.h (ABS_*, BTN_*).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Self

from embodied.errors import HardwareError

EVENT = struct.Struct("<IhBB")  # time in ms, value, type, number
BUTTON, AXIS, INIT = 0x01, 0x02, 0x80
FULL = 32767
AXIS_MAP, AXIS_MAP_SIZE = 0x80406A32, 0x40  # JSIOCGAXMAP: a byte an axis, which is its ABS_* code
BUTTON_MAP, BUTTON_MAP_SIZE = 0x84006A34, 0x400  # JSIOCGBTNMAP: two bytes a button, which are its BTN_* code

AXES = {0: "left_x", 1: "left_y", 2: "left_trigger", 3: "right_x", 4: "right_y", 5: "right_trigger"}
AXES |= {0x10: "hat_x", 0x11: "hat_y"}  # ABS_X, Y, Z, RX, RY, RZ, HAT0X, HAT0Y
BUTTONS = {0x130: "south", 0x131: "east", 0x133: "north", 0x134: "west", 0x136: "left_shoulder"}
BUTTONS |= {0x137: "right_shoulder", 0x13A: "select", 0x13B: "start"}  # BTN_SOUTH, EAST, NORTH, WEST, TL, TR, ...
# What the kernel's xpad driver gives, for a device that does not say what its numbers are.
XPAD_AXES = (0, 1, 2, 3, 4, 5, 0x10, 0x11)
XPAD_BUTTONS = (0x130, 0x131, 0x134, 0x133, 0x136, 0x137, 0x13A, 0x13B)


class GamepadError(HardwareError):
    """A gamepad that is not there, may not be read, or went away."""


class Joystick:
    """An open joystick: where its axes are, -1 to 1, and which buttons were pressed; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the device; raise GamepadError, saying what to do, where that cannot be done."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            found = sorted(str(p) for p in Path("/dev/input").glob("js*"))
            raise GamepadError(
                f"no gamepad at {path}; {f'there are {found}' if found else 'there is none: plug it in or pair it'} "
                "(--gamepad DEVICE)"
            ) from None
        except PermissionError:
            raise GamepadError(
                f"{path} may not be read: add yourself to its group, sudo usermod -aG input $USER"
            ) from None
        except OSError as error:
            raise GamepadError(f"{path} cannot be opened: {error.strerror}") from error
        self._rest = b""
        self._axis_names = [AXES.get(code, "") for code in self._ask(AXIS_MAP, AXIS_MAP_SIZE, "B") or XPAD_AXES]
        codes = self._ask(BUTTON_MAP, BUTTON_MAP_SIZE, "H") or XPAD_BUTTONS
        self._button_names = [BUTTONS.get(code, "") for code in codes]
        self.axes = dict.fromkeys(AXES.values(), 0.0)
        self.held: set[str] = set()
        self._seen: set[str] = set()

    def pressed(self) -> list[str]:
        """Read all events that wait; return the buttons pressed in them. Raise GamepadError if the device went away."""
        found = []
        for value, kind, number in self._events():
            names = self._axis_names if kind & AXIS else self._button_names
            name = names[number] if number < len(names) else ""
            if kind & AXIS and name:
                self.axes[name] = max(-1.0, value / FULL)
                self._seen.add(name)
            elif kind & BUTTON and name:
                (self.held.add if value else self.held.discard)(name)
                if value and not kind & INIT:  # held while it was opened is not pressed
                    found.append(name)
        return found

    def trigger(self, name: str) -> float:
        """Return how far a trigger is pulled, 0 to 1; one not heard of yet is not."""
        return (self.axes[name] + 1) / 2 if name in self._seen else 0.0

    def close(self) -> None:
        """Close the device; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _events(self) -> list[tuple[int, int, int]]:
        data = self._rest
        while True:
            try:
                more = os.read(self._fd, 64 * EVENT.size)
            except BlockingIOError:
                break
            except OSError as error:
                raise GamepadError(
                    f"the gamepad at {self.path} is gone: {os.strerror(error.errno or errno.EIO)}"
                ) from error
            if not more:
                raise GamepadError(f"the gamepad at {self.path} is gone")
            data += more
        whole = len(data) - len(data) % EVENT.size
        self._rest = data[whole:]
        return [event[1:] for event in EVENT.iter_unpack(data[:whole])]

    def _ask(self, request: int, size: int, code: str) -> tuple[int, ...]:
        """Return what the device says of its axes or buttons, one number each; nothing where it is no joystick."""
        answer = bytearray(size)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, request, answer)
            return struct.unpack(f"<{size // struct.calcsize(code)}{code}", answer)
        return ()

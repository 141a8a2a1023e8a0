"""CameraSettings: where a camera's pictures come from, what is asked of it, and how a picture becomes a frame."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from embodied.errors import HardwareError

ROTATIONS_DEG = (0, 90, 180, 270)
CROP_KEYS = "'square', or four fractions [y1, x1, y2, x2] of the upright picture"

Crop = Literal["square"] | tuple[float, float, float, float]


class CameraError(HardwareError):
    """A camera that is missing, taken, or gives something else than was asked of it."""


@dataclass(frozen=True)
class CameraSettings:
    """One camera as a user describes it; what is None is not asked of the device, and anything is taken."""

    source: int | str  # a device's number or path, a file's path, or a URL
    width: int | None = None  # pixels of the device's picture, before it is rotated and cropped
    height: int | None = None
    fps: float | None = None
    fourcc: str | None = None  # how the device packs its pixels: "MJPG" spares the USB bus, "YUYV" is exact
    rotate_deg: int = 0  # clockwise, until the picture is upright; the crop is one of the upright picture
    crop: Crop = "square"  # "square": the largest middle part that has the frame's shape
    colour: Literal["rgb", "bgr"] = "rgb"  # "bgr": its driver swaps red and blue, so they are swapped back
    stale_s: float = 0.3  # a newest frame older than this is no frame
    loop: bool = False  # a file begins again at its end; otherwise the camera is lost then
    frozen: bool | None = None  # take a picture that is repeated bit for bit as old; None: of a device, yes

    def __post_init__(self) -> None:
        for name in ("width", "height", "fps", "stale_s"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise CameraError(f"camera setting {name} is a number above 0, got {value!r}")
        if isinstance(self.source, bool) or not isinstance(self.source, int | str) or self.source in ("",):
            raise CameraError(f"camera setting source is a device's number, a path or a URL, got {self.source!r}")
        if isinstance(self.source, int) and self.source < 0:
            raise CameraError(f"camera setting source: devices count from 0, got {self.source}")
        _require_one_of("rotate_deg", self.rotate_deg, ROTATIONS_DEG)
        _require_one_of("colour", self.colour, ("rgb", "bgr"))
        if self.fourcc is not None and not re.fullmatch(r"[A-Za-z0-9 ]{4}", str(self.fourcc)):
            raise CameraError(f"camera setting fourcc is four letters such as 'MJPG', got {self.fourcc!r}")
        _check_crop(self.crop)

    @classmethod
    def of(cls, value: int | str | Mapping[str, Any] | CameraSettings) -> CameraSettings:
        """Read a camera as a user writes it: a source, or a mapping of settings.

        Raise CameraError naming the setting that is unknown or has no such value, with the choices.
        """
        if isinstance(value, CameraSettings):
            return value
        given: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"source": value}
        names = [f.name for f in fields(cls)]
        if unknown := [key for key in given if key not in names]:
            raise CameraError(f"no camera setting {unknown[0]!r}; there are {names}")
        if "source" not in given:
            raise CameraError(f"a camera needs a source: a device's number, a path or a URL; got {given}")
        if isinstance(given["source"], str) and given["source"].isdecimal():
            given["source"] = int(given["source"])
        if isinstance(given.get("crop"), list):
            given["crop"] = tuple(given["crop"])
        return cls(**given)

    @property
    def kind(self) -> Literal["device", "url", "file"]:
        """Say what the source is by its look: a number or /dev/... a device, SCHEME://... a URL, else a file."""
        if isinstance(self.source, int) or self.source.startswith("/dev/"):
            return "device"
        return "url" if "://" in self.source else "file"

    @property
    def is_http(self) -> bool:
        """Say whether the source is a URL of the web."""
        return isinstance(self.source, str) and self.source.lower().startswith(("http://", "https://"))

    @property
    def label(self) -> str:
        """Return the source as it may be shown: a URL without its password."""
        if isinstance(self.source, int):
            return f"/dev/video{self.source}"
        return re.sub(r"(://)[^/@]*@", r"\1", self.source)

    @property
    def watches_for_frozen(self) -> bool:
        """Say whether a repeated picture counts as old: a sensor has noise, a drawing has none."""
        return self.kind == "device" if self.frozen is None else self.frozen


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise CameraError(f"camera setting {name} is one of {list(choices)}, got {value!r}")


def _check_crop(crop: object) -> None:
    if crop == "square":
        return
    if not (isinstance(crop, tuple) and len(crop) == 4 and all(map(_is_number, crop))):
        raise CameraError(f"camera setting crop is {CROP_KEYS}, got {crop!r}")
    y1, x1, y2, x2 = crop
    if not (0 <= y1 < y2 <= 1 and 0 <= x1 < x2 <= 1):
        raise CameraError(
            f"camera setting crop is {CROP_KEYS}, with 0 <= y1 < y2 <= 1 and x likewise; got {list(crop)}"
        )

"""What was asked of a camera against what it gives: size once a picture is there, rate once several are."""

from __future__ import annotations

from embodied.cameras.fitting import Picture
from embodied.cameras.settings import CameraError, CameraSettings

RATE_TOLERANCE = 0.2
LEAST_PERIODS = 1.5  # between two pictures that come in time, a frame must not have gone stale already
HINTS = {
    "device": "`v4l2-ctl --list-formats-ext` lists what it can do, with fourcc='MJPG' often more",
    "file": "a file is as it was recorded: leave this setting out",
    "url": "a stream is as its server sends it: change it there, or leave this setting out",
}


def check_size(picture: Picture, settings: CameraSettings) -> None:
    """Raise CameraError unless the picture is as wide and high as was asked."""
    height, width = picture.shape[:2]
    if (settings.width or width, settings.height or height) != (width, height):
        asked = f"{settings.width or 'any'}x{settings.height or 'any'}"
        raise CameraError(f"asked {settings.label} for {asked}, it gives {width}x{height}; {HINTS[settings.kind]}")


def check_rate(fps: float, settings: CameraSettings) -> None:
    """Raise CameraError unless pictures come at the rate that was asked, and before a frame is stale."""
    if settings.fps is not None and abs(fps / settings.fps - 1) > RATE_TOLERANCE:
        dark = "; in the dark a camera exposes longer: more light, or a fixed exposure" if fps < settings.fps else ""
        raise CameraError(
            f"asked {settings.label} for {settings.fps:g} pictures a second, it gives {fps:.1f}{dark}; "
            f"{HINTS[settings.kind]}"
        )
    if settings.stale_s * fps < LEAST_PERIODS:
        raise CameraError(
            f"{settings.label} gives {fps:.1f} pictures a second, and one is old after stale_s={settings.stale_s:g}: "
            f"most would be; choose stale_s={2 / fps:.2g} or a quicker camera"
        )

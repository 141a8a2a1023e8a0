"""Draws an episode as a video: the camera views side by side, the instruction, the step and the outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from embodied.errors import EmbodiedError
from embodied.types import Action, Camera, Frame, Observation, Policy, RobotSpec, Step

VIEW_HEIGHT_PX = 384
CAPTION_HEIGHT_PX = 76
BANNER_S = 1.5  # how long the outcome stays on screen
FONT = cv2.FONT_HERSHEY_SIMPLEX
INK = (235, 235, 235)
GROUND = (24, 24, 28)
GREEN = (46, 160, 67)
RED = (200, 55, 45)
BOX_COLOURS = ((255, 196, 0), (0, 200, 255), (255, 90, 200), (120, 255, 120))
SHEET_COLUMNS = 2
SHEET_SCALE = 0.5


class VideoRecorder:
    """An Observer that writes an episode as H.264 at the control rate; a context manager."""

    def __init__(
        self,
        path: Path,
        spec: RobotSpec,
        policy: Policy,
        *,
        cameras: Sequence[str] = (),
        instruction: str | None = None,
    ) -> None:
        self._spec, self._policy, self._instruction = spec, policy, instruction
        self._cameras = choose_cameras(spec, cameras)
        self._steps = 0
        self._closed = False
        self._path = path
        self._stack = contextlib.ExitStack()
        self._container = self._stack.enter_context(av.open(str(path), "w", options={"movflags": "faststart"}))
        self._stream = self._container.add_stream("libx264", rate=Fraction(spec.control_hz).limit_denominator(1000))
        self._stream.width, self._stream.height = canvas_size(self._cameras)
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}

    def began(self, observation: Observation) -> None:
        """Draw the first observation."""
        self._write(observation, None)

    def stepped(self, action: Action, step: Step) -> None:
        """Draw what came of an action."""
        self._steps += 1
        self._write(step.observation, None)

    def ended(self, success: bool) -> None:
        """Keep the last observation on screen for a while, with the outcome."""
        for _ in range(round(BANNER_S * self._spec.control_hz)):
            self._write(self._latest, success)

    def close(self) -> None:
        """Flush the encoder and close the file, or remove it if the episode had no step; idempotent."""
        if self._closed:
            return
        self._closed = True
        with self._stack:
            self._container.mux(self._stream.encode())
        if not self._steps:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> VideoRecorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write(self, observation: Observation, outcome: bool | None) -> None:
        self._latest = observation
        boxes = getattr(self._policy, "last_boxes", None) or {}  # an optional attribute, for drawing alone
        text = self._instruction or observation.instruction
        canvas = draw(observation, self._cameras, text=text, steps=self._steps, outcome=outcome, boxes=boxes)
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))


def choose_cameras(spec: RobotSpec, names: Sequence[str]) -> tuple[Camera, ...]:
    """Return the named cameras, or all if none is named; raise EmbodiedError with the valid names."""
    if not spec.cameras:
        raise EmbodiedError(f"{spec.name} has no camera, so there is no video to make: say --videos 0")
    return tuple(spec.camera(name) for name in names) or spec.cameras


def canvas_size(cameras: Sequence[Camera]) -> tuple[int, int]:
    """Return (width, height) in px of a drawn frame: even, as H.264 with halved chroma needs."""
    return sum(_view_width(camera) for camera in cameras), VIEW_HEIGHT_PX + CAPTION_HEIGHT_PX


def draw(
    observation: Observation,
    cameras: Sequence[Camera],
    *,
    text: str,
    steps: int,
    outcome: bool | None,
    boxes: Mapping[str, tuple[float, float, float, float]],
) -> Frame:
    """Draw one frame; outcome is None while the episode runs, and a camera that gave no frame is a blank that says so.

    boxes are (y1, x1, y2, x2) in fractions of the `front` view.
    """
    image = np.concatenate([_view(camera, observation.frames.get(camera.name), boxes) for camera in cameras], axis=1)
    ground = GROUND if outcome is None else GREEN if outcome else RED
    caption = np.full((CAPTION_HEIGHT_PX, image.shape[1], 3), ground, np.uint8)
    for row, line in enumerate(_wrap(text, image.shape[1] - 24)[:2]):
        cv2.putText(caption, line, (12, 22 + 20 * row), FONT, 0.5, INK, 1, cv2.LINE_AA)
    status = "" if outcome is None else "  success" if outcome else "  failure"
    cv2.putText(caption, f"step {steps}{status}", (12, CAPTION_HEIGHT_PX - 10), FONT, 0.5, INK, 1, cv2.LINE_AA)
    return np.concatenate([image, caption])


def contact_sheet(videos: Sequence[Path]) -> Frame:
    """Return the last frames of videos in a grid, each with its outcome: uint8 (H, W, 3) RGB."""
    frames = [_shrink(_last_frame(path)) for path in videos]
    height, width = max(f.shape[0] for f in frames), max(f.shape[1] for f in frames)
    columns = min(SHEET_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    sheet = np.full((rows * height, columns * width, 3), GROUND, np.uint8)
    for i, frame in enumerate(frames):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + frame.shape[0], x : x + frame.shape[1]] = frame
    return sheet


def write_png(path: Path, image: Frame) -> None:
    """Write an RGB image as PNG."""
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(f"could not write {path}")


def read_video(path: Path) -> Iterator[Frame]:
    """Yield a video's frames, uint8 (H, W, 3) RGB."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _last_frame(path: Path) -> Frame:
    *_, last = read_video(path)
    return last


def _shrink(frame: Frame) -> Frame:
    return np.asarray(cv2.resize(frame, None, fx=SHEET_SCALE, fy=SHEET_SCALE, interpolation=cv2.INTER_AREA), np.uint8)


def _view(camera: Camera, frame: Frame | None, boxes: Mapping[str, tuple[float, float, float, float]]) -> Frame:
    width, words = _view_width(camera), camera.name
    if frame is None:
        view, words = np.full((VIEW_HEIGHT_PX, width, 3), GROUND, np.uint8), f"{camera.name}: no frame"
    else:
        view = np.asarray(cv2.resize(frame, (width, VIEW_HEIGHT_PX), interpolation=cv2.INTER_CUBIC), np.uint8)
        if camera.name == "front":
            _draw_boxes(view, boxes)
    cv2.putText(view, words, (8, VIEW_HEIGHT_PX - 10), FONT, 0.45, INK, 1, cv2.LINE_AA)
    return view


def _view_width(camera: Camera) -> int:
    return round(VIEW_HEIGHT_PX * camera.width / camera.height / 2) * 2


def _draw_boxes(view: Frame, boxes: Mapping[str, tuple[float, float, float, float]]) -> None:
    height, width = view.shape[:2]
    for (name, (y1, x1, y2, x2)), colour in zip(boxes.items(), BOX_COLOURS, strict=False):
        corner = (round(x1 * width), round(y1 * height))
        cv2.rectangle(view, corner, (round(x2 * width), round(y2 * height)), colour, 2, cv2.LINE_AA)
        cv2.putText(view, name, (corner[0], max(12, corner[1] - 5)), FONT, 0.45, colour, 1, cv2.LINE_AA)


def _wrap(text: str, width_px: int) -> list[str]:
    """Break text into lines that fit; the font has ASCII only, and shows `?` for the rest."""
    lines = [""]
    for word in text.encode("ascii", "replace").decode().split():
        longer = f"{lines[-1]} {word}".strip()
        if cv2.getTextSize(longer, FONT, 0.5, 1)[0][0] <= width_px or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines

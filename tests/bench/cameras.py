"""How old a network camera's newest picture is: our reader beside OpenCV's, kept up with and after a pause."""

import time

import cv2
import numpy as np

from embodied.cameras.mjpeg import MotionJpegSource
from embodied.cameras.settings import CameraSettings
from tests.mjpeg_server import MotionJpegServer, age_ms

PICTURES = 90
PAUSE_S = 2.0


def ours(url: str) -> dict[str, float]:
    source = MotionJpegSource(CameraSettings.of(url))
    found = measure(lambda: source.read().picture)
    source.close()
    return found


def opencv(url: str) -> dict[str, float]:
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    found = measure(lambda: capture.read()[1])
    capture.release()
    return found


def measure(read) -> dict[str, float]:
    """Return the ages in ms: of the first picture, of those while one keeps up, and of those after a pause."""
    first, *kept_up = (age_ms(middle(read())) for _ in range(PICTURES))
    time.sleep(PAUSE_S)
    after = [age_ms(middle(read())) for _ in range(10)]
    return {"first": first, "kept up": float(np.median(kept_up)), "after a pause": after[0], "10th after": after[-1]}


def middle(picture: np.ndarray) -> np.ndarray:
    return picture[:, 80:560]


def main() -> None:
    columns = ("first", "kept up", "after a pause", "10th after")
    print(f"{'age of a picture, ms':24}", *(f"{column:>14}" for column in columns))
    for fps in (30, 10):
        for name, reader in (("ours", ours), ("opencv", opencv)):
            with MotionJpegServer(fps) as server:
                print(f"{f'{fps} a second, {name}':24}", *(f"{age:14.0f}" for age in reader(server.url).values()))


if __name__ == "__main__":
    main()

"""Cameras give their newest frame with its true age, or say why there is none; what they are asked for is checked."""

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from embodied.cameras.clock import SenderClock
from embodied.cameras.fitting import Fit
from embodied.cameras.mjpeg import MotionJpegSource
from embodied.cameras.parts import PartReader
from embodied.cameras.reader import CLOSE_S, LOST_S, CameraReader, Shot
from embodied.cameras.settings import CameraError, CameraSettings
from embodied.types import Camera
from tests.mjpeg_server import MotionJpegServer, age_ms, picture, time_ms_in
from tests.servo_emulator.process import Emulator
from tests.video_server import VideoServer

ROOT = Path(__file__).parents[1]
CAMERA = Camera("front", 128, 128, 50.0)
PERIOD_MS = 1000 / 30
LOADED_MS = 150  # what two cores under a test suite may add to any delay


def reader(source, camera: Camera = CAMERA, **settings) -> CameraReader:
    return CameraReader(camera, CameraSettings.of({"source": source, "stale_s": 0.6, **settings}))


def until(shot: Callable[[], Shot], state: str, detail: str = "", timeout_s: float = 15.0) -> Shot:
    end_s = time.monotonic() + timeout_s
    while (seen := shot()).state != state or detail not in seen.detail:
        assert time.monotonic() < end_s, f"still {seen.state}: {seen.detail}"
        time.sleep(0.005)
    return seen


@pytest.fixture
def server():
    with MotionJpegServer() as serving:
        yield serving


@pytest.fixture
def file(tmp_path):
    def write(pictures: list[np.ndarray], fps: float = 30.0) -> str:
        path = str(tmp_path / "camera.avi")
        height, width = pictures[0].shape[:2]
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
        for image in pictures:
            writer.write(image)
        writer.release()
        return path

    return write


def refusal(source, camera: Camera = CAMERA, **settings) -> str:
    with pytest.raises(CameraError) as error:
        reader(source, camera, **settings).close()
    return str(error.value)


class TestSettings:
    def test_a_number_a_path_and_a_url_are_sources(self):
        kinds = [CameraSettings.of(s).kind for s in (0, "2", "/dev/v4l/by-id/usb-x", "a.mp4", "rtsp://host/x")]
        assert kinds == ["device", "device", "device", "file", "url"]

    def test_an_unknown_setting_is_named_with_the_choices(self):
        with pytest.raises(CameraError, match=r"no camera setting 'widht'; there are \['source', 'width', 'height'"):
            CameraSettings.of({"source": 0, "widht": 640})

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({}, "needs a source"),
            ({"source": -1}, "count from 0"),
            ({"source": 0, "width": 0}, "width is a number above 0"),
            ({"source": 0, "fps": "fast"}, "fps is a number above 0"),
            ({"source": 0, "rotate_deg": 45}, r"rotate_deg is one of \[0, 90, 180, 270\], got 45"),
            ({"source": 0, "colour": "yuv"}, r"colour is one of \['rgb', 'bgr'\]"),
            ({"source": 0, "crop": "round"}, "crop is 'square', or four fractions"),
            ({"source": 0, "crop": [0.5, 0, 0.2, 1]}, "0 <= y1 < y2 <= 1"),
            ({"source": 0, "fourcc": "MJPEG"}, "four letters"),
        ],
    )
    def test_a_value_that_cannot_be_is_refused(self, settings, says):
        with pytest.raises(CameraError, match=says):
            CameraSettings.of(settings)

    def test_a_password_is_not_shown(self):
        assert CameraSettings.of("http://me:secret@host:81/x").label == "http://host:81/x"


class TestFit:
    raw = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8), (640, 480))

    @pytest.mark.parametrize("rotate_deg", [0, 90, 180, 270])
    def test_a_crop_is_one_of_the_upright_picture(self, rotate_deg):
        upright = np.rot90(self.raw, -rotate_deg // 90)
        h, w = upright.shape[:2]
        crop = (0.25, 0.5, 0.25 + 240 / h, 0.5 + 240 / w)
        settings = CameraSettings(0, rotate_deg=rotate_deg, crop=crop)
        part = upright[round(0.25 * h) : round(0.25 * h) + 240, round(0.5 * w) : round(0.5 * w) + 240, ::-1]
        wanted = cv2.resize(np.ascontiguousarray(part), (120, 120), interpolation=cv2.INTER_AREA)
        frame = Fit.of(self.raw.shape, Camera("front", 120, 120, 50.0), settings).frame(self.raw)
        assert frame.shape == (120, 120, 3)
        assert np.abs(frame.astype(int) - wanted).max() <= 1

    def test_square_is_the_largest_middle_part_of_the_frames_shape(self):
        wide = Camera("front", 60, 120, 50.0)
        frame = Fit.of(self.raw.shape, wide, CameraSettings(0)).frame(self.raw)
        wanted = cv2.resize(self.raw[80:400], (120, 60), interpolation=cv2.INTER_AREA)[..., ::-1]
        assert np.array_equal(frame, wanted)

    def test_colours_that_a_driver_swaps_are_swapped_back(self):
        right = Fit.of(self.raw.shape, CAMERA, CameraSettings(0)).frame(self.raw)
        swapped = Fit.of(self.raw.shape, CAMERA, CameraSettings(0, colour="bgr")).frame(self.raw[..., ::-1].copy())
        assert np.array_equal(right, swapped)

    def test_a_frame_never_shares_the_pictures_memory(self):
        raw = self.raw[:128, :128].copy()
        for colour in ("rgb", "bgr"):
            assert not np.shares_memory(Fit.of(raw.shape, CAMERA, CameraSettings(0, colour=colour)).frame(raw), raw)

    def test_a_part_of_another_shape_or_too_few_pixels_is_refused(self):
        with pytest.raises(CameraError, match=r"leaves 640x480, which is not the shape of a frame of 128x128"):
            Fit.of(self.raw.shape, CAMERA, CameraSettings(0, crop=(0, 0, 1, 1)))
        with pytest.raises(CameraError, match=r"leaves 96x96, less than a frame of 128x128; ask .* for a larger"):
            Fit.of((96, 128, 3), CAMERA, CameraSettings(0))


class TestFiles:
    def test_a_file_plays_at_its_own_rate_and_begins_again_only_if_told_so(self, file):
        path = file([picture(n) for n in range(12)], fps=20)
        seen = {}
        playing = reader(path, loop=True)
        end_s = time.monotonic() + 1.5
        while time.monotonic() < end_s:
            shot = playing.latest()
            if shot.frame is not None:
                seen[shot.taken_ns] = time_ms_in(shot.frame)
            time.sleep(0.005)
        playing.close()
        assert set(seen.values()) == set(range(12))
        assert 20 <= len(seen) <= 31
        assert np.median(np.diff(sorted(seen))) == pytest.approx(50e6, rel=0.02)

    def test_a_file_at_its_end_is_a_lost_camera(self, file):
        playing = reader(file([picture(n) for n in range(12)]))
        shot = until(playing.latest, "lost")
        assert shot.frame is None
        assert "camera 'front'" in shot.detail
        assert "is at its end; with loop=True" in shot.detail
        playing.close()

    def test_red_is_red(self, file):
        red = np.zeros((128, 128, 3), np.uint8)
        red[..., 2] = 255
        playing = reader(file([red] * 9), loop=True)
        assert (playing.latest().frame.mean(axis=(0, 1)) > 128).tolist() == [True, False, False]
        playing.close()

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"width": 1280, "height": 720}, "asked .*camera.avi for 1280x720, it gives 640x480; a file is as"),
            ({"fps": 10}, r"for 10 pictures a second, it gives (2|3)\d\.\d"),
            ({"stale_s": 0.02}, r"one is old after stale_s=0.02.*choose stale_s=0.06"),
            ({"crop": (0, 0, 1, 1)}, "not the shape of a frame"),
        ],
    )
    def test_what_is_asked_is_compared_with_what_comes(self, file, settings, says):
        with pytest.raises(CameraError, match=f"^camera 'front': .*{says}"):
            reader(file([picture(n) for n in range(30)]), **settings)

    def test_what_is_no_video_is_named(self, tmp_path):
        assert "no file nowhere.mp4; a source is" in refusal("nowhere.mp4")
        (tmp_path / "text.mp4").write_text("no video")
        assert "text.mp4 holds no video" in refusal(str(tmp_path / "text.mp4"))


class TestDevices:
    def test_a_device_that_is_not_there_is_named_with_those_that_are(self):
        assert "camera 'front': no device /dev/video97; " in refusal(97)

    def test_a_device_that_is_no_camera_is_named(self, tmp_path):
        assert "/dev/null is no camera" in refusal("/dev/null")

    def test_a_device_that_may_not_be_opened_comes_with_the_command_that_allows_it(self):
        try:
            os.mknod(device := "/dev/video98", stat.S_IFCHR | 0o600, os.makedev(81, 0))
        except OSError:
            pytest.skip("only root makes devices, and not in every container")
        who = os.getresuid()
        try:
            os.setresuid(65534, 65534, who[0])
            said = refusal(98)
        finally:
            os.setresuid(*who)
            os.unlink(device)
        assert (
            "no permission to open /dev/video98" in said and "`sudo usermod -aG video $USER`, then log in again" in said
        )

    def test_whatever_goes_wrong_with_a_camera_is_said_at_once(self, file):
        path = file([np.zeros((64, 64, 3), np.uint8)] * 30)
        assert "camera 'none': ZeroDivisionError: " in refusal(path, Camera("none", 0, 0, 50.0))


class TestNetworkCameras:
    @pytest.mark.parametrize("stamps", [True, False])
    @pytest.mark.parametrize("lengths", [True, False])
    def test_the_age_of_a_frame_is_true(self, server, lengths, stamps):
        server.lengths, server.stamps = lengths, stamps
        camera = reader(server.url, width=640, height=480)
        errors_ms, ages_ms = [], []
        for _ in range(40):
            time.sleep(0.013)
            shot = until(camera.latest, "live")
            said_ms, true_ms = shot.age_s * 1e3, age_ms(shot.frame)
            ages_ms.append(true_ms)
            errors_ms.append(true_ms - said_ms)
        camera.close()
        assert np.median(np.abs(errors_ms)) < PERIOD_MS
        assert np.median(ages_ms) < 2 * PERIOD_MS + LOADED_MS

    @pytest.mark.parametrize("stamps", [True, False])
    def test_what_queued_while_nobody_read_is_not_shown_as_new(self, server, stamps):
        server.stamps = stamps
        source = MotionJpegSource(CameraSettings.of(server.url))
        for _ in range(5):
            source.read()
        time.sleep(1.5)
        taken = source.read()
        said_ms = (time.monotonic_ns() - taken.time_ns) / 1e6
        true_ms = age_ms(taken.picture[:, 80:560])
        source.close()
        assert true_ms < 2 * PERIOD_MS + LOADED_MS
        assert abs(true_ms - said_ms) < PERIOD_MS + LOADED_MS

    def test_a_stream_without_bytes_is_stalled_then_lost_then_opened_again(self, server):
        camera = reader(server.url)
        server.fault = "stall"
        began_s = time.monotonic()
        stalled = until(camera.latest, "stalled")
        assert 0.5 < stalled.age_s < 1.5
        assert stalled.frame is None
        assert f"camera 'front': no new picture from {server.url} for 0." in stalled.detail
        lost = until(camera.latest, "lost")
        assert time.monotonic() - began_s < LOST_S + 1.5
        assert lost.frame is None
        server.fault = ""
        assert until(camera.latest, "live").frame is not None
        assert camera.reopened == 1
        camera.close()

    def test_a_camera_that_is_unplugged_comes_back_by_itself(self, server):
        camera = reader(server.url)
        server.close()
        lost = until(camera.latest, "lost")
        assert "its server closed the connection" in lost.detail or "nobody answers" in lost.detail
        assert "opening it again in" in lost.detail
        with MotionJpegServer(port=server.port):
            back = until(camera.latest, "live")
            assert age_ms(back.frame) < 1000
            camera.close()

    def test_a_camera_that_comes_back_with_too_few_pixels_stays_lost_and_says_why(self, server):
        camera = reader(server.url)
        server.size = (160, 120)
        server.drop()
        until(camera.latest, "lost", "leaves 120x120, less than a frame")
        camera.close()

    def test_a_picture_repeated_bit_for_bit_is_old(self, server):
        camera = reader(server.url, frozen=True)
        server.fault = "frozen"
        stalled = until(camera.latest, "stalled")
        assert "but the same one again, bit for bit" in stalled.detail
        until(camera.latest, "lost", "repeats one picture bit for bit")
        server.fault = ""
        until(camera.latest, "live")
        camera.close()

    def test_a_drawing_may_stand_still(self, server):
        server.fault = "frozen"
        camera = reader(server.url)
        end_s = time.monotonic() + LOST_S + 0.5
        while time.monotonic() < end_s:
            assert camera.latest().state != "lost"
            time.sleep(0.02)
        until(camera.latest, "live")
        camera.close()

    def test_half_a_picture_is_none(self, server):
        camera = reader(server.url)
        server.fault = "short"
        assert until(camera.latest, "stalled").frame is None
        camera.close()

    def test_bytes_that_never_make_a_picture_are_a_lost_camera(self, server):
        camera = reader(server.url)
        server.fault = "trickle"
        until(camera.latest, "lost")
        camera.close()

    def test_closing_does_not_wait_for_a_stalled_stream(self, server):
        camera = reader(server.url)
        server.fault = "stall"
        time.sleep(0.1)
        began_s = time.monotonic()
        camera.close()
        camera.close()
        assert time.monotonic() - began_s < CLOSE_S + 0.5
        assert not camera._thread.is_alive()

    def test_a_password_is_sent(self, server):
        server.password = "me:s%cret"
        assert "answers 401 Unauthorized; its user and password go before the host" in refusal(server.url)
        reader(server.url.replace("//", "//me:s%25cret@")).close()

    def test_what_is_no_stream_is_named(self, server):
        base = server.url.removesuffix("/stream")
        assert "is a single picture" in refusal(f"{base}/one.jpg")
        assert "no video at" in refusal(f"{base}/page.html")
        server.close()
        assert "nobody answers at" in refusal(server.url)

    def test_a_server_that_accepts_and_says_nothing_does_not_hold_the_robot_up(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began_s = time.monotonic()
            assert "timed out" in refusal(f"http://127.0.0.1:{silent.getsockname()[1]}/stream")
            assert time.monotonic() - began_s < 6

    def test_looking_never_waits(self, server):
        camera = reader(server.url)
        took_s = []
        for _ in range(300):
            began_s = time.monotonic()
            camera.latest()
            took_s.append(time.monotonic() - began_s)
            time.sleep(0.001)
        camera.close()
        assert np.median(took_s) < 0.001


class TestStreams:
    def test_the_age_of_a_frame_is_true_and_a_stalled_stream_is_opened_again(self):
        with VideoServer() as server:
            camera = reader(server.url, stale_s=1.0)
            ages_ms, errors_ms = [], []
            for _ in range(60):
                time.sleep(0.013)
                shot = until(camera.latest, "live")
                ages_ms.append(age_ms(shot.frame))
                errors_ms.append(ages_ms[-1] - shot.age_s * 1e3)
            assert np.median(np.abs(errors_ms)) < 2 * PERIOD_MS
            assert np.median(ages_ms) < 5 * PERIOD_MS + LOADED_MS
            server.fault = "stall"
            assert until(camera.latest, "stalled").frame is None
            until(camera.latest, "lost")
            server.fault = ""
            assert age_ms(until(camera.latest, "live").frame) < 1000
            camera.close()


class TestSenderClock:
    def test_what_came_late_is_older_by_what_it_was_late(self):
        clock = SenderClock()
        for n in range(10):
            assert clock.taken_ns(1_000_000_000 + n * 33_000_000, n * 33_000_000) == 1_000_000_000 + n * 33_000_000
        late_ns = clock.taken_ns(1_000_000_000 + 1_330_000_000, 10 * 33_000_000)
        assert late_ns == pytest.approx(1_000_000_000 + 330_000_000, abs=200_000)

    def test_clocks_that_drift_apart_make_no_picture_old(self):
        clock = SenderClock()
        for n in range(0, 3600 * 30, 10):
            arrived_ns = n * 33_333_333
            assert arrived_ns - clock.taken_ns(arrived_ns, round(arrived_ns * (1 - 5e-5))) < 1_000_000


class TestParts:
    def test_any_cut_of_the_bytes_gives_the_same_parts(self):
        bodies = [b"\xff\xd8 one \r\n\xff\xd9", b"\xff\xd8 two \xff\xd9", b"\xff\xd8 three \xff\xd9"]
        parts = [b"--b\r\nContent-Length: %d\r\nX-Timestamp: 1.5\r\n\r\n%s\r\n" % (len(b), b) for b in bodies]
        parts += [b"--b\r\ncontent-type: image/jpeg\r\n\r\n%s\r\n" % b for b in bodies] + [b"--b\r\n"]
        stream = b"".join(parts)
        for step in (1, 2, 3, 7, 50, len(stream)):
            cut = PartReader()
            pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
            found = [part for piece in pieces for part in cut.feed(piece, 5)]
            assert [part.body for part in found] == bodies * 2
            assert [part.stamp_ns for part in found] == [1_500_000_000] * 3 + [None] * 3

    def test_what_has_no_parts_is_refused(self):
        with pytest.raises(CameraError, match="no headers"):
            list(PartReader().feed(b"x" * 100_000, 0))
        with pytest.raises(CameraError, match="more than 32 MiB"):
            list(PartReader().feed(b"--b\r\nContent-Length: 99999999999\r\n\r\n", 0))


LEFT_OPEN = """
from embodied.cameras.reader import CameraReader
from embodied.cameras.settings import CameraSettings
from embodied.types import Camera
import sys, time
reader = CameraReader(Camera("front", 128, 128, 50.0), CameraSettings(sys.argv[1], stale_s=1.0))
print("open", flush=True)
while reader.latest().state == "live":
    time.sleep(0.01)
print(reader.latest().state)
"""


def test_a_program_that_leaves_a_stalled_camera_open_ends_well():
    with VideoServer() as server:
        command = [sys.executable, "-c", LEFT_OPEN, server.url]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "open\n"
        server.fault = "stall"
        shown, errors = child.communicate(timeout=30)
    assert (child.returncode, shown, errors) == (0, "stalled\n", "")


def test_what_goes_wrong_is_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for source in (str(tmp_path / "text.mp4"), "rtsp://127.0.0.1:9/x"):
        command = [sys.executable, "-m", "embodied", "doctor", "--camera", source]
        child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert child.returncode == 2
        assert child.stderr.startswith("error: camera")
        assert child.stderr.count("\n") == 1, child.stderr


def test_the_emulated_arms_cameras_come_and_go():
    with Emulator(size=128) as arm:
        camera = reader(arm.cameras["front"], stale_s=0.5)
        arm.ask({"fault": {"kind": "stalled_camera", "camera": "front"}})
        until(camera.latest, "stalled")
        arm.ask({"clear": True})
        until(camera.latest, "live")
        arm.ask({"fault": {"kind": "lost_camera", "camera": "front"}})
        until(camera.latest, "lost")
        arm.ask({"clear": True})
        assert until(camera.latest, "live").frame.shape == (128, 128, 3)
        camera.close()


def test_no_thread_is_left_behind(server):
    cameras = [reader(server.url, Camera(f"unique {n}", 64, 64, 50.0)) for n in range(3)]
    for camera in cameras:
        camera.close()
    assert [t.name for t in threading.enumerate() if "unique" in t.name] == []

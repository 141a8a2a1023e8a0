"""The doctor names what is there, what is not, and the command that mends it; its exit status can be trusted."""

import json
import os

import cv2
import numpy as np
import pytest
from serial.tools.list_ports_common import ListPortInfo

from embodied.cameras import found
from embodied.cameras.look import colour_name
from embodied.cli import main
from embodied.cli.doctor import EXTRAS, Finding, _gpu, examine, render_error
from embodied.cli.doctor_hardware import examine_hardware


def test_the_exit_status_agrees_with_the_findings(capsys):
    status = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    missing = [f["name"] for f in report["findings"] if f["needed"] and not f["ok"]]
    assert report["ready"] == (missing == [])
    assert status == (0 if report["ready"] else 1)


def test_everything_that_fails_has_a_command_that_mends_it():
    findings = list(examine())
    assert {"python", "cores", "memory", "disk", "gpu", "serial ports", "cameras"} <= {f.name for f in findings}
    assert all(f.mend for f in findings if not f.ok)


def test_every_extra_is_looked_at():
    names = {f.name.partition(":")[0] for f in examine()}
    assert set(EXTRAS) <= names


def test_a_backend_that_cannot_render_says_why():
    error = render_error("nonsense")
    assert error is not None
    assert "nonsense" in error


@pytest.mark.parametrize(("needed", "mark", "status"), [(True, "MISSING", 1), (False, "absent", 0)])
def test_a_missing_thing_is_shown_with_its_command(monkeypatch, capsys, needed, mark, status):
    finding = Finding("arm", "no arm", ok=False, needed=needed, mend="install arm")
    monkeypatch.setattr("embodied.cli.doctor.examine", lambda: [finding])
    assert main(["doctor"]) == status
    shown = capsys.readouterr().out
    assert f"{mark:8} arm: no arm" in shown
    assert "mend: install arm" in shown


def test_a_port_and_a_camera_that_may_not_be_opened_are_named_with_the_group_to_join(monkeypatch):
    port = ListPortInfo("/dev/ttyACM7")
    port.description, port.vid, port.pid = "USB Single Serial", 0x1A86, 0x55D3
    camera = found.Device("/dev/video7", "Webcam", 0, "", may_open=False)
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [port])
    monkeypatch.setattr(found, "devices", lambda: [camera])
    monkeypatch.setattr("os.access", lambda path, mode: False)
    ports, cameras = examine_hardware()
    assert ports.found == "/dev/ttyACM7 (USB Single Serial, 1a86:55d3, no permission)" and not ports.ok
    assert ports.mend.startswith("sudo usermod -aG dialout ") and ports.mend.endswith(", then log in again")
    assert cameras.found == "/dev/video7 (Webcam), no permission" and not cameras.ok
    assert cameras.mend.startswith("sudo usermod -aG video ")
    monkeypatch.setattr("os.access", lambda path, mode: True)
    ports, _ = examine_hardware()
    assert ports.ok and "no permission" not in ports.found and not ports.needed


def test_a_graphics_driver_that_hangs_is_said_not_to_answer(monkeypatch, tmp_path):
    (tool := tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("embodied.cli.doctor.GPU_TIMEOUT_S", 0.1)
    assert _gpu() == "driver does not answer"


@pytest.fixture
def red_file(tmp_path):
    path = str(tmp_path / "red.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 30, (320, 240))
    for _ in range(60):
        writer.write(np.full((240, 320, 3), (20, 20, 220), np.uint8))
    writer.release()
    return path


def test_a_camera_is_looked_through(red_file, capsys):
    assert main(["doctor", "--camera", json.dumps({"source": red_file, "loop": True, "stale_s": 1.0})]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"camera {red_file}: 320x240, ")
    assert "red in the middle" in shown


def test_red_and_blue_swapped_are_seen(red_file, capsys):
    settings = {"source": red_file, "loop": True, "stale_s": 1.0, "colour": "bgr"}
    assert main(["doctor", "--camera", json.dumps(settings)]) == 0
    assert "blue in the middle" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("no.mp4", "no file no.mp4"),
        ("97", "no device /dev/video97"),
        ("{", "is no JSON"),
        ('{"source": 0, "size": 3}', "no camera setting 'size'"),
    ],
)
def test_a_camera_that_gives_nothing_is_one_line(source, says, capsys):
    assert main(["doctor", "--camera", source]) == 2
    shown = capsys.readouterr().err.strip()
    assert says in shown
    assert "\n" not in shown


def test_colours_have_names():
    named = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "yellow": (200, 200, 30)}
    named |= {"grey": (120, 120, 120), "white": (250, 250, 250), "black": (10, 5, 5)}
    for name, rgb in named.items():
        assert colour_name(np.full((64, 64, 3), rgb, np.uint8)) == name

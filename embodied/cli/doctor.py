"""Say what this machine can do, what is missing and the command that mends it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from embodied.cli.doctor_hardware import examine_hardware
from embodied.cli.finding import Finding
from embodied.errors import HardwareError
from embodied.machine import cores, memory_bytes
from embodied.versions import installed

EXAMPLE = """example:
  embodied doctor            # exit status 0: a simulation can be run here; 1: something it needs is missing
  embodied doctor --json
  embodied doctor --camera 0 --camera /dev/v4l/by-id/...    # hold something red before it: it must say red
"""

BACKENDS = ("egl", "osmesa")
EGL_PACKAGES = ("libegl1", "libegl-mesa0", "libgl1-mesa-dri", "libopengl0", "libgl1")  # Debian's names
OSMESA_PACKAGES = ("libosmesa6",)
RENDER_TIMEOUT_S = 60
GPU_TIMEOUT_S = 20.0
NEEDED_DISK_GB = 2.0

# extra -> (what it is for, its packages); the first three are what a simulation with a policy needs.
EXTRAS = {
    "core": ("the contract and the bridge", ("numpy", "grpcio", "protobuf")),
    "sim": ("simulated robots", ("mujoco", "gymnasium", "mink", "daqp")),
    "policy": ("the token policy", ("torch", "transformers", "tokenizers", "safetensors", "scipy")),
    "hardware": (
        "real arms and cameras",
        ("pyserial", "feetech-servo-sdk", "dynamixel-sdk", "opencv-python-headless"),
    ),
    "record": ("datasets and videos", ("pyarrow", "av", "opencv-python-headless", "tqdm", "matplotlib")),
    "dev": ("tests", ("pytest", "hypothesis", "ruff", "mypy", "grpcio-tools")),
}
OPTIONAL = {"dev", "hardware"}

# Rendered in a process of its own, since a GL library that fails may take its process along.
_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 3'/><geom size='.3'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any(), "the frame is black"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--camera",
        action="append",
        metavar="SOURCE",
        help="only look through this camera for a second: a device's number or path, a file or a URL; or its settings "
        'as JSON, as in \'{"source": 0, "width": 1280}\'',
    )


def run(args: argparse.Namespace) -> int:
    """Print every finding; return 0 if nothing needed is missing, 1 otherwise."""
    if args.camera:
        return _look_through(args.camera)
    findings = [*examine()]
    ready = all(f.ok for f in findings if f.needed)
    if args.json:
        print(json.dumps({"ready": ready, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        _print(findings, ready)
    return 0 if ready else 1


def examine() -> Iterable[Finding]:
    """Yield what this machine has, one finding at a time."""
    yield Finding("python", f"{platform.python_version()} at {sys.executable}", sys.version_info >= (3, 11))
    yield from (_packages(extra) for extra in EXTRAS)
    renders = {backend: render_error(backend) for backend in BACKENDS}
    working = [backend for backend, error in renders.items() if error is None]
    for backend, error in renders.items():
        # Either backend will do, so one that fails beside one that works is no fault.
        yield Finding(f"render {backend}", error or "works", error is None, not working, _mend_gl(backend))
    yield Finding("cores", str(cores()), True)
    yield Finding("memory", _memory(), True, needed=False)
    yield _disk()
    yield Finding("gpu", _gpu(), True, needed=False)
    yield from examine_hardware()


def render_error(backend: str) -> str | None:
    """Render a frame with a MuJoCo GL backend in a process of its own; return None, or why there is no frame."""
    try:
        subprocess.run(
            [sys.executable, "-c", _RENDER],
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            text=True,
            timeout=RENDER_TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return f"no frame within {RENDER_TIMEOUT_S} s"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        return next((line for line in reversed(lines) if "Error" in line), f"exit status {error.returncode}")[:160]
    return None


def _look_through(sources: Iterable[str]) -> int:
    """Print what each camera gives; raise CameraError for the first that gives nothing."""
    try:
        from embodied.cameras.look import look
        from embodied.cameras.settings import CameraSettings
    except ModuleNotFoundError as error:
        raise HardwareError(f"cameras need {error.name!r}: {_install('embodied-runtime[hardware]')}") from error
    for source in sources:
        settings = CameraSettings.of(_read_source(source))
        print(f"camera {settings.label}: {look(settings)}", flush=True)
    return 0


def _read_source(text: str) -> Any:  # noqa: ANN401  CameraSettings.of judges it
    try:
        return json.loads(text) if text.startswith("{") else text
    except ValueError as error:
        raise HardwareError(f"--camera {text} is no JSON: {error}") from error


def _install(wanted: str) -> str:
    return f"{sys.executable} -m pip install -c constraints.txt '{wanted}'"


def _packages(extra: str) -> Finding:
    what, packages = EXTRAS[extra]
    versions = installed(packages)
    missing = [package for package in packages if package not in versions]
    present = ", ".join(f"{package} {version}" for package, version in versions.items())
    found = "; ".join(filter(None, [present, f"missing {', '.join(missing)}" if missing else ""]))
    wanted = "embodied-runtime" if extra == "core" else f"embodied-runtime[{extra}]"
    mend = _install(wanted)
    return Finding(f"{extra}: {what}", found, not missing, extra not in OPTIONAL, mend)


def _mend_gl(backend: str) -> str:
    packages = " ".join(EGL_PACKAGES if backend == "egl" else OSMESA_PACKAGES)
    root = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
    return f"{root}apt-get install --yes --no-install-recommends {packages}"


def _memory() -> str:
    found = memory_bytes()
    return f"{found / 2**30:.1f} GiB" if found else "unknown"


def _disk() -> Finding:
    free_gb = shutil.disk_usage(os.getcwd()).free / 1e9
    return Finding("disk", f"{free_gb:.1f} GB free here", free_gb >= NEEDED_DISK_GB, True, "free some space")


def _gpu() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none; the policy runs on the CPU"
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return "driver does not answer"
    return "; ".join(listed.stdout.split("\n")).strip("; ") if listed.returncode == 0 else "driver does not answer"


def _print(findings: Iterable[Finding], ready: bool) -> None:
    for f in findings:
        mark = "ok" if f.ok else "MISSING" if f.needed else "absent"
        print(f"{mark:8} {f.name}: {f.found}")
        if not f.ok and f.mend:
            print(f"{'':8}   mend: {f.mend}")
    print("ready: simulations run here" if ready else "not ready: see MISSING above")

"""The OpenGL backend that MuJoCo will render with where no display is at hand."""

import ctypes
import os
import sys

# Without a display MuJoCo's own default, GLFW, cannot open a context; EGL is the faster of the two that can.
_LIBRARIES = {"egl": ("libEGL.so.1", "libEGL.so"), "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")}


def choose_backend() -> str | None:
    """Set MUJOCO_GL to the first backend whose library loads; return what MUJOCO_GL is then.

    A value already set is left alone, and so is a machine with a display. Call it before mujoco is first imported.
    """
    headless_linux = sys.platform.startswith("linux") and not os.environ.get("DISPLAY")
    if "MUJOCO_GL" not in os.environ and headless_linux:
        for backend, libraries in _LIBRARIES.items():
            if any(_loads(library) for library in libraries):
                os.environ["MUJOCO_GL"] = backend
                break
    return os.environ.get("MUJOCO_GL")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True

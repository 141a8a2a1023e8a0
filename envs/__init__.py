"""Worlds that simulate a robot: importing this package picks a renderer and registers the gymnasium environments."""

import pkgutil
from pathlib import Path

import gymnasium

from envs.gl import choose_backend

choose_backend()  # here, because MuJoCo reads MUJOCO_GL when it is first imported

# The tasks are listed, not imported: a world that is never made should cost nothing.
for _task in pkgutil.iter_modules([str(Path(__file__).parent / "tasks")]):
    _id = f"embodied/{_task.name.title().replace('_', '')}-v0"
    gymnasium.register(_id, entry_point="envs.gym:TaskEnv", kwargs={"task": _task.name})

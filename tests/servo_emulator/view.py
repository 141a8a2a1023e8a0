"""What the cameras can see, in memory shared by two processes: the physics writes it, the cameras draw it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mujoco
import numpy as np

SHARED = Path("/dev/shm")
NAMES = ("front", "wrist")
LIVE, STALLED, LOST = range(3)


class View:
    """Positions and looks of everything, and what is wrong with each camera."""

    def __init__(self, model: mujoco.MjModel, path: str | None = None) -> None:
        if path is None:
            self._file = tempfile.NamedTemporaryFile(dir=SHARED if SHARED.is_dir() else None)  # noqa: SIM115 - ours to keep
        self.path = path or self._file.name
        layout = np.dtype(
            [
                ("turn", np.int64),  # odd while it is being written
                ("state", np.int64, (len(NAMES),)),
                ("qpos", np.float64, (model.nq,)),
                ("mocap_pos", np.float64, (model.nmocap, 3)),
                ("mocap_quat", np.float64, (model.nmocap, 4)),
                ("geom_rgba", np.float32, (model.ngeom, 4)),
                ("geom_group", np.int32, (model.ngeom,)),
            ]
        )
        self._at = np.memmap(self.path, layout, mode="r+" if path else "w+", shape=(1,))[0]

    def write(self, data: mujoco.MjData) -> None:
        """Show where things are now."""
        at = self._at
        at["turn"] += 1
        at["qpos"][:] = data.qpos
        at["mocap_pos"][:] = data.mocap_pos
        at["mocap_quat"][:] = data.mocap_quat
        at["turn"] += 1

    def write_looks(self, model: mujoco.MjModel) -> None:
        """Show what things look like, and which are hidden."""
        self._at["geom_rgba"][:] = model.geom_rgba
        self._at["geom_group"][:] = model.geom_group

    def read(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Bring another model and its data to what is shown, ready to be drawn."""
        at = self._at
        while True:
            before = int(at["turn"])
            data.qpos[:] = at["qpos"]
            data.mocap_pos[:] = at["mocap_pos"]
            data.mocap_quat[:] = at["mocap_quat"]
            if before % 2 == 0 and int(at["turn"]) == before:
                break
        model.geom_rgba[:] = at["geom_rgba"]
        model.geom_group[:] = at["geom_group"]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)

    def state(self, name: str) -> int:
        """Return LIVE, STALLED or LOST for a camera."""
        return int(self._at["state"][NAMES.index(name)])

    def set_state(self, name: str, state: int) -> None:
        """Say what is wrong with a camera."""
        self._at["state"][NAMES.index(name)] = state

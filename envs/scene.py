"""The SO-101's table in MuJoCo: one compiled model that shows any layout, and answers questions about it."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.layout import (
    BOWL_HEIGHT_M,
    BOWL_INNER_M,
    BOWL_WALL_M,
    COLOURS,
    CUBE_HALF_M,
    ZONE_RADIUS_M,
    Layout,
)

Array = NDArray[np.float64]

ASSETS = Path(__file__).resolve().parents[1] / "sim_assets"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CAPACITY = {"cube": 4, "bowl": 2, "zone": 2}
CONTROL_PERIOD_S = 0.1
TICK_S = 0.02  # between two setpoints of the servos

_CUBE_KG = 0.025
_BOWL_SIDES = 12
_FLOOR_HALF_M = 0.0015
_SHOWN, _HIDDEN = 0, 5  # geom groups: MuJoCo draws 0 to 2 by default
_PARKED_DAMPING = 1e4  # a parked cube sinks 0.4 mm in 15 s of weightless solitude rather than falling for ever


class Scene:
    """The arm, four cubes, two bowls and two zones on a table; what a layout does not use is hidden."""

    def __init__(self) -> None:
        self.model = _build().compile()
        self.data = mujoco.MjData(self.model)
        self._shown: Layout | None = None
        self._joint_qpos = np.array([self.model.joint(name).qposadr[0] for name in JOINTS])
        actuators = np.array([self.model.actuator(name).id for name in JOINTS])
        self._ctrl: Array = self.data.ctrl[slice(actuators[0], actuators[-1] + 1)]  # a view; they stand side by side
        ranges = self.model.jnt_range[[self.model.joint(name).id for name in JOINTS]]
        self.low_rad: Array = ranges[:, 0].copy()
        self.high_rad: Array = ranges[:, 1].copy()
        self._gripper_site = self.model.site("gripperframe").id
        self._names = [f"{kind}_{i}" for kind, count in CAPACITY.items() for i in range(count)]
        self._body = {name: self.model.body(name).id for name in self._names}
        substeps = round(TICK_S / self.model.opt.timestep)
        self._shares = np.arange(1, substeps + 1)[:, None] / substeps
        self._static_finger = self.model.body("gripper").id
        self._moving_jaw = self.model.body("moving_jaw_so101_v1").id

    # -- the episode

    def reset(self, layout: Layout, arm_rad: Array) -> None:
        """Show the layout with the arm at rest at arm_rad (6,), and let the cubes settle."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._joint_qpos] = arm_rad
        self._ctrl[:] = arm_rad
        self.lay_out(layout)
        for _ in range(round(CONTROL_PERIOD_S / TICK_S)):
            self.advance(arm_rad)
        self.refresh()
        self.data.time = 0.0

    def lay_out(self, layout: Layout) -> None:
        """Show the layout around the arm as it is; the cubes have yet to settle."""
        self._shown = layout
        self.park_all()
        for item in layout.items:
            self._show(item.name, COLOURS[item.colour])
            height = CUBE_HALF_M if item.kind == "cube" else 0.0
            self.place(item.name, np.array([*item.xy_m, height]), item.yaw_rad)

    def park_all(self) -> None:
        """Hide every object, out of the arm's way."""
        for index, name in enumerate(self._names):
            self._park(name, index)

    def advance(self, target_rad: Array) -> None:
        """Run one tick, the joint targets moving linearly to target_rad (6,); call refresh before looking."""
        start = self.target_rad
        for target in start + (target_rad - start) * self._shares:
            self._ctrl[:] = target
            mujoco.mj_step(self.model, self.data)

    def refresh(self) -> None:
        """Bring positions up to date with qpos, leaving everything the next step depends on as it is."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def place(self, name: str, position_m: Array, yaw_rad: float = 0.0) -> None:
        """Put the object at position_m (3,) at rest, upright."""
        quat = np.array([np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)])
        body = self.model.body(self._body[name])
        if name.startswith("cube"):
            joint = self.data.joint(name)
            joint.qpos[:] = [*position_m, *quat]
            joint.qvel[:] = 0.0
        else:
            self.data.mocap_pos[body.mocapid[0]] = position_m
            self.data.mocap_quat[body.mocapid[0]] = quat
        self.refresh()

    # -- what is where

    @property
    def shown(self) -> Layout:
        """Return the layout on the table; RuntimeError before the first reset."""
        if self._shown is None:
            raise RuntimeError("nothing is on the table yet: call reset first")
        return self._shown

    @property
    def arm_rad(self) -> Array:
        """Return the measured joint positions (6,) in the order of JOINTS."""
        return np.array(self.data.qpos[self._joint_qpos])

    @property
    def target_rad(self) -> Array:
        """Return the joint targets (6,) that the servos are holding."""
        return self._ctrl.copy()

    @property
    def gripper_position(self) -> Array:
        """Return the gripperframe site (3,), m in the base frame."""
        return np.array(self.data.site_xpos[self._gripper_site])

    @property
    def time_ns(self) -> int:
        """Return the simulated time since the episode began."""
        return round(float(self.data.time) * 1e9)

    def position(self, name: str) -> Array:
        """Return an object's origin (3,), m in the base frame: a cube's centre, a bowl's or zone's base."""
        return np.array(self.data.xpos[self._body[name]])

    def rotation(self, name: str) -> Array:
        """Return an object's rotation (3, 3) in the base frame."""
        return np.array(self.data.xmat[self._body[name]].reshape(3, 3))

    def speed(self, cube: str) -> float:
        """Return how fast the cube's centre moves, m/s."""
        return float(np.linalg.norm(self.data.joint(cube).qvel[:3]))

    def fingers_on(self, cube: str) -> frozenset[str]:
        """Return which of "static" and "moving" finger touch the cube."""
        fingers = {self._static_finger: "static", self._moving_jaw: "moving"}
        return frozenset(fingers[b] for b in self._touching(cube) if b in fingers)

    def rests_on(self, cube: str, support: str) -> bool:
        """Return whether the two objects are in contact."""
        return self._body[support] in self._touching(cube)

    @property
    def held(self) -> str | None:
        """Return the cube between both fingers, if any."""
        return next((n for n in self._names if n.startswith("cube") and len(self.fingers_on(n)) == 2), None)

    def _touching(self, name: str) -> set[int]:
        body = self._body[name]
        geom_body = self.model.geom_bodyid
        pairs = geom_body[self.data.contact.geom.reshape(-1, 2)]
        mine = pairs[(pairs == body).any(axis=1)]
        return {int(b) for b in mine.ravel() if b != body}

    # -- what is shown

    def _park(self, name: str, index: int) -> None:
        self._dress(name, group=_HIDDEN, collides=0, damping=_PARKED_DAMPING)
        self.place(name, np.array([-0.5, 0.15 * (index - 4), -0.5]))

    def _show(self, name: str, rgb: tuple[float, float, float]) -> None:
        self._dress(name, group=_SHOWN, collides=0 if name.startswith("zone") else 1, damping=0.0)
        body = self.model.body(self._body[name])
        for geom in range(body.geomadr[0], body.geomadr[0] + body.geomnum[0]):
            self.model.geom_rgba[geom] = [*rgb, 1.0]

    def _dress(self, name: str, *, group: int, collides: int, damping: float) -> None:
        body = self.model.body(self._body[name])
        geoms = slice(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
        self.model.geom_group[geoms] = group
        self.model.geom_contype[geoms] = collides
        self.model.geom_conaffinity[geoms] = collides
        if name.startswith("cube"):
            dof = body.dofadr[0]
            self.model.dof_damping[dof : dof + 6] = damping


def _build() -> mujoco.MjSpec:
    spec = mujoco.MjSpec.from_file(str(ASSETS / "table" / "table.xml"))
    for i in range(CAPACITY["cube"]):
        _add_cube(spec, f"cube_{i}")
    for i in range(CAPACITY["bowl"]):
        _add_bowl(spec, f"bowl_{i}")
    for i in range(CAPACITY["zone"]):
        _add_zone(spec, f"zone_{i}")
    return spec


def _add_cube(spec: mujoco.MjSpec, name: str) -> None:
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF_M] * 3,
        mass=_CUBE_KG,
        friction=[0.8, 0.005, 0.0001],
        condim=4,
    )


def _add_bowl(spec: mujoco.MjSpec, name: str) -> None:
    body = spec.worldbody.add_body(name=name, mocap=True)
    floor_radius = BOWL_INNER_M + BOWL_WALL_M / 2
    body.add_geom(
        name=f"{name}_floor",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[floor_radius, _FLOOR_HALF_M, 0],
        pos=[0, 0, _FLOOR_HALF_M],
    )
    lean = np.arctan2(0.007, BOWL_HEIGHT_M)  # the wall opens 7 mm outwards from floor to rim
    for i in range(_BOWL_SIDES):
        angle = 2 * np.pi * i / _BOWL_SIDES
        radius = BOWL_INNER_M + BOWL_WALL_M / 2 + 0.0035
        half_width = (radius + 0.003) * np.tan(np.pi / _BOWL_SIDES)
        body.add_geom(
            name=f"{name}_wall_{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[BOWL_WALL_M / 2, half_width, BOWL_HEIGHT_M / 2],
            pos=[radius * np.cos(angle), radius * np.sin(angle), BOWL_HEIGHT_M / 2],
            quat=_yaw_then_lean(angle, lean),
        )


def _yaw_then_lean(yaw: float, lean: float) -> Array:
    about_z, about_y, both = np.empty(4), np.empty(4), np.empty(4)
    mujoco.mju_axisAngle2Quat(about_z, [0.0, 0.0, 1.0], yaw)
    mujoco.mju_axisAngle2Quat(about_y, [0.0, 1.0, 0.0], lean)
    mujoco.mju_mulQuat(both, about_z, about_y)
    return both


def _add_zone(spec: mujoco.MjSpec, name: str) -> None:
    body = spec.worldbody.add_body(name=name, mocap=True)
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[ZONE_RADIUS_M, 0.0006, 0],  # drawn 0.6 mm proud of the table, so that neither shows through the other
        contype=0,
        conaffinity=0,
    )

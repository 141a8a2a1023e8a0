"""One Meta-World task in its simulator: seeded for real, begun from one state whatever went before."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodied.types import Frame, Vector
from envs.cameras import Cameras
from envs.projection import CUBE_CORNERS, outline

Array = NDArray[np.float64]

CAMERA, FOVY_DEG = "corner2", 60.0
HAND_CAMERA = f"{CAMERA}_hand"  # the part of the same picture that is around the hand,
FINER = 2  # at so many times its pixels
View = Literal["whole", "table"]
CAMERA_PLACE_M = (0.75, 0.075, 0.7)  # where LeRobot's MetaworldEnv moves it, after Seo et al. 2022 (arXiv 2206.14244)
PROPRIOCEPTION = slice(0, 4)
POINTS = {"target": slice(4, 7), "goal": slice(36, 39), "other": slice(11, 14)}  # of 39: the simulator's truth
HALF_BOX_M = 0.03
_MOVED_BY_A_RESET = ("body_pos", "body_quat", "site_pos")


@dataclass(frozen=True)
class Window:
    """A square part of the camera's picture, as fractions from the top left."""

    top: float
    left: float
    side: float

    @property
    def fovy_deg(self) -> float:
        """Return the angle between its upper and its lower edge."""
        edges = np.arctan((2 * np.array([self.top, self.top + self.side]) - 1) * np.tan(np.deg2rad(FOVY_DEG) / 2))
        return round(float(np.rad2deg(np.ptp(edges))), 2)

    def cut(self, picture: Frame, size: int, finer: int = 1) -> Frame:
        """Return the part (size, size, 3) of a picture that is drawn finer / side times as large."""
        top, left = round(self.top * len(picture)), round(self.left * len(picture))
        part = picture[top : top + finer * size, left : left + finer * size]
        if finer == 1:
            return np.ascontiguousarray(part)
        # Added up as integers, row by row: np.mean takes three times as long, a fifth of the drawing.
        rows = np.add.reduce([part[i::finer].astype(np.uint16) for i in range(finer)])
        cells = np.add.reduce([rows[:, i::finer] for i in range(finer)])
        means: Frame = ((cells + finer**2 // 2) // finer**2).astype(np.uint8)
        return means

    def inside(self, edges: Array) -> Array:
        """Return edges (y1, x1, y2, x2) in the picture as they are in this part, below 0 or above 1 where beyond it."""
        found: Array = (edges - [self.top, self.left] * 2) / self.side
        return found

    def box(self, edges: Array) -> Vector:
        """Return the same of edges (y1, x1, y2, x2), cut off where this part ends: fractions 0..1 of it."""
        return np.asarray(np.clip(self.inside(edges), 0.0, 1.0), np.float32)


# In the table's part all objects, goals and hands of the 50 tasks are seen, at 2.04 times the pixels of the whole.
VIEWS: dict[View, Window] = {"whole": Window(0.0, 0.0, 1.0), "table": Window(0.25, 0.25, 0.7)}

# Parts of the robot that are never in the table's part: not to draw them takes a quarter less time.
OUT_OF_SIGHT = ("head", "right_arm_base_link", "right_l0")


def drawn_px(size: int, view: View, hand: int) -> int:
    """Return the side of the whole picture as it is drawn: finer where a frame around the hand is to be cut from it."""
    return (FINER if hand else 1) * round(size / VIEWS[view].side)


class MetaWorldScene:
    """A task's environment, its goal observable: seen and env hold the objects' places, which no policy may see."""

    seen: Array  # (39,) what Meta-World says of the present, objects and goal included

    def __init__(self, task: str, *, size: int, view: View, hand: int, effects: bool) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS  # two seconds that only an episode needs

        self.env: Any = ALL_V3_ENVIRONMENTS[task]()
        _open_to_experts(self.env)
        model = self.env.model
        model.camera(CAMERA).pos = CAMERA_PLACE_M
        if not effects:
            model.vis.quality.offsamples = 0
        if view == "table":
            unseen = [model.body(name).id for name in OUT_OF_SIGHT]
            model.geom_rgba[np.isin(model.geom_bodyid, unseen), 3] = 0.0
        self._fresh = {name: getattr(model, name).copy() for name in _MOVED_BY_A_RESET}
        self._size, self._window, self._hand = size, VIEWS[view], hand
        self._finer = FINER if hand else 1
        self._picture_px = drawn_px(size, view, hand)
        self._cameras = Cameras(model, self._picture_px, effects=effects)

    def begin(self, seed: int) -> None:
        """Lay the scene out by seed alone.

        Meta-World's own reset ignores its seed, and lays out from wherever the last episode ended: bodies that it moved
        stay moved, and what it measures before the simulator has caught up is that of before. Nor are they drawn in
        their new places before the first step, without the mj_forward here.
        """
        env = self.env
        for name, values in self._fresh.items():
            getattr(env.model, name)[:] = values
        mujoco.mj_resetData(env.model, env.data)
        mujoco.mj_forward(env.model, env.data)
        env.seed(seed)
        env.reset()
        mujoco.mj_forward(env.model, env.data)
        env._prev_obs = env._get_curr_obs_combined_no_goal()
        space = env.sawyer_observation_space
        self.seen = np.clip(np.asarray(env._get_obs(), np.float64), space.low, space.high)

    def step(self, setpoint: Array) -> tuple[float, bool]:
        """Carry out one action (4,); return Meta-World's reward, and whether it succeeded."""
        seen, reward, _, _, info = self.env.step(setpoint.astype(np.float32))
        self.seen = np.asarray(seen, np.float64)
        return float(reward), bool(info["success"])

    def state(self) -> Array:
        """Return where the hand is (3,) in m, and how far it is open: what Meta-World says but for objects and goal."""
        return self.seen[PROPRIOCEPTION]

    def frames(self) -> dict[str, Frame]:
        """Draw the frame (size, size, 3) and, where it is asked for, that around the hand (hand, hand, 3)."""
        picture = self._cameras.draw(self.env.data, (CAMERA,))[CAMERA][::-1, ::-1]  # as published work turns it back
        drawn = {CAMERA: self._window.cut(picture, self._size, self._finer)}
        if self._hand:
            drawn[HAND_CAMERA] = self.hand_window().cut(picture, self._hand)
        return drawn

    def hand_window(self) -> Window:
        """Return the part of the picture that is around the hand, more of it below: things are come to from above.

        The state's own numbers, and where the camera stands, tell where that is.
        """
        y, x = self.edges(self.state()[None, :3])[:2]
        side = self._hand / self._picture_px
        top, left = np.clip([y - side / 3, x - side / 2], 0.0, 1.0 - side)
        return Window(float(top), float(left), side)

    def labels(self) -> dict[str, Vector]:
        """Return target_position, goal_position and, where the task has a second object, other_position (3,) in m; each
        with its _box (y1, x1, y2, x2), fractions 0..1 of the frame: that of a cube of 6 cm around the point.

        What lies in the frame around the hand has its box in that as _box_corner2_hand.
        """
        points = {name: point for name, place in POINTS.items() if (point := self.seen[place]).any()}
        cubes = {name: self.edges(point + HALF_BOX_M * CUBE_CORNERS) for name, point in points.items()}
        found = {f"{name}_position": np.asarray(point, np.float32) for name, point in points.items()}
        found |= {f"{name}_box": self._window.box(cube) for name, cube in cubes.items()}
        if self._hand:
            window = self.hand_window()
            places = {name: window.inside(self.edges(point[None])) for name, point in points.items()}
            near = [name for name, place in places.items() if (place > 0).all() and (place < 1).all()]
            found |= {f"{name}_box_{HAND_CAMERA}": window.box(cubes[name]) for name in near}
        return found

    def edges(self, points: Array) -> Array:
        """Return the edges (y1, x1, y2, x2) of points (n, 3) m in the camera's picture, fractions from the top left."""
        upright = outline(points, self.env.data.camera(CAMERA), FOVY_DEG)
        return 1.0 - upright[[2, 3, 0, 1]]  # the camera stands on its head

    def close(self) -> None:
        """Let go of the renderer and the simulator."""
        self._cameras.close()
        self.env.close()


def expert_for(task: str) -> Any:  # noqa: ANN401 - Meta-World's own policies have no common type that is checked here
    """Return Meta-World's scripted expert for a task: get_action(seen) -> action (4,), not within its range."""
    from metaworld.policies import ENV_POLICY_MAP

    # Their gains are high on purpose: the range is kept here, and each of them says so at every step.
    warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
    return ENV_POLICY_MAP[task]()


def _open_to_experts(env: Any) -> None:  # noqa: ANN401
    """Let the environment be begun by seed, and tell its goal: Meta-World's own way to both is a benchmark of tasks."""
    env._partially_observable = False
    env.__dict__.pop("sawyer_observation_space", None)  # made anew, with room for the goal
    env._set_task_called = True
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True

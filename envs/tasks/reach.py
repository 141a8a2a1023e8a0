"""Reach: bring the gripper's tip to a point just above the named cube, and leave the cube where it is."""

from __future__ import annotations

import numpy as np

from envs import motions
from envs.layout import CUBE_HALF_M, Item, Layout, Region, clear_of, draw_colours, draw_until
from envs.motions import Aim, View
from envs.scene import Scene
from envs.tasks import phrase

ABOVE_M = 0.02  # over the cube's top face
WITHIN_M = 0.025
STRAYED_M = 0.02

TEMPLATES = (
    "reach for the {target} {cube}",
    "reach the {target} {cube}",
    "reach out to the {target} {cube}",
    "reach toward the {target} {cube}",
    "move to the {target} {cube}",
    "move over the {target} {cube}",
    "move the gripper to the {target} {cube}",
    "move the gripper above the {target} {cube}",
    "bring the gripper to the {target} {cube}",
    "bring the gripper over the {target} {cube}",
    "go to the {target} {cube}",
    "go above the {target} {cube}",
    "hover over the {target} {cube}",
    "hover above the {target} {cube}",
    "hold the gripper above the {target} {cube}",
    "hold the gripper over the {target} {cube}",
    "point at the {target} {cube}",
    "point to the {target} {cube}",
    "place the gripper right above the {target} {cube}",
    "position the gripper over the {target} {cube}",
    "approach the {target} {cube}",
    "find the {target} {cube} and hover over it",
    "stop right above the {target} {cube}",
    "show me the {target} {cube}",
)


class Reach:
    """Reach one of three cubes."""

    name = "reach"
    horizon = 60

    def layout(self, rng: np.random.Generator) -> Layout:
        """Draw three cubes of different colours, one of them the target."""
        region = Region()
        colours = draw_colours(rng, 3)

        def draw() -> Layout | None:
            points = [region.draw(rng) for _ in colours]
            if not all(clear_of(point, points[:i], 0.07) for i, point in enumerate(points)):
                return None
            items = tuple(
                Item(f"cube_{i}", colour, (point[0], point[1]), rng.uniform(-np.pi, np.pi))
                for i, (colour, point) in enumerate(zip(colours, points, strict=True))
            )
            return Layout(items, "cube_0", "cube_0")

        return draw_until(draw)

    def instruction(self, rng: np.random.Generator, target: str, goal: str) -> str:
        """Name the cube to reach."""
        return phrase(rng, TEMPLATES, target=[target], cube=("cube", "block"))

    def success(self, scene: Scene) -> bool:
        """Return whether the tip is near the point above the cube, and the cube where it was."""
        layout = scene.shown
        start = np.array(layout.item(layout.target).xy_m)
        strayed = np.hypot(*(scene.position(layout.target)[:2] - start))
        distance = np.linalg.norm(scene.gripper_position - self.goal_position(scene))
        return bool(distance <= WITHIN_M and strayed <= STRAYED_M)

    def goal_position(self, scene: Scene) -> tuple[float, float, float]:
        """Return the point above the cube's top face."""
        x, y, z = scene.position(scene.shown.target)
        return x, y, z + CUBE_HALF_M + ABOVE_M

    def motion(self, view: View) -> Aim:
        """Return what the expert of envs.motions wants next."""
        return motions.reach(view)


TASK = Reach()

"""Pick and place: put the named cube into the named bowl and let go of it."""

from __future__ import annotations

import numpy as np

from envs import motions
from envs.layout import (
    BOWL_HEIGHT_M,
    BOWL_INNER_M,
    BOWL_RADIUS_M,
    CUBE_HALF_M,
    Item,
    Layout,
    Region,
    clear_of,
    draw_colours,
    draw_until,
)
from envs.motions import Aim, View
from envs.scene import Scene
from envs.tasks import SLOW_M_S, phrase

BOWL_FLOOR_M = 0.003
FINGER_ROOM_M = 0.04  # around a cube, for the open fingers to come down

TEMPLATES = (
    "put the {target} {cube} in the {goal} {bowl}",
    "put the {target} {cube} into the {goal} {bowl}",
    "put the {target} {cube} inside the {goal} {bowl}",
    "place the {target} {cube} in the {goal} {bowl}",
    "place the {target} {cube} into the {goal} {bowl}",
    "drop the {target} {cube} in the {goal} {bowl}",
    "drop the {target} {cube} into the {goal} {bowl}",
    "pick up the {target} {cube} and put it in the {goal} {bowl}",
    "pick up the {target} {cube} and place it in the {goal} {bowl}",
    "pick the {target} {cube} and drop it into the {goal} {bowl}",
    "pick and place the {target} {cube} in the {goal} {bowl}",
    "grasp the {target} {cube} and put it into the {goal} {bowl}",
    "grab the {target} {cube} and drop it in the {goal} {bowl}",
    "take the {target} {cube} and put it in the {goal} {bowl}",
    "take the {target} {cube} to the {goal} {bowl}",
    "lift the {target} {cube} into the {goal} {bowl}",
    "move the {target} {cube} into the {goal} {bowl}",
    "set the {target} {cube} down in the {goal} {bowl}",
    "the {target} {cube} goes in the {goal} {bowl}",
    "the {target} {cube} belongs in the {goal} {bowl}",
    "in the {goal} {bowl}, put the {target} {cube}",
    "fill the {goal} {bowl} with the {target} {cube}",
    "carry the {target} {cube} to the {goal} {bowl} and let go",
    "collect the {target} {cube} in the {goal} {bowl}",
)


class PickPlace:
    """Put one of two cubes into one of two bowls."""

    name = "pick_place"
    horizon = 150

    def layout(self, rng: np.random.Generator) -> Layout:
        """Draw two cubes and two bowls, with room for the fingers around each cube."""
        colours = draw_colours(rng, 4)
        return draw_until(lambda: self._draw(rng, colours))

    def _draw(self, rng: np.random.Generator, colours: list[str]) -> Layout | None:
        cubes_in, bowls_in = Region(), Region(near_m=0.15, far_m=0.225, side_m=0.12)
        bowls = [bowls_in.draw(rng) for _ in range(2)]
        if not clear_of(bowls[0], bowls[1:], 2 * BOWL_RADIUS_M + 0.01):
            return None
        cubes = [cubes_in.draw(rng) for _ in range(2)]
        if not clear_of(cubes[0], cubes[1:], 0.07):
            return None
        if not all(clear_of(cube, bowls, BOWL_RADIUS_M + FINGER_ROOM_M) for cube in cubes):
            return None
        points = zip(("cube_0", "cube_1", "bowl_0", "bowl_1"), (*cubes, *bowls), strict=True)
        items = tuple(
            Item(name, colour, (point[0], point[1]), rng.uniform(-np.pi, np.pi))
            for colour, (name, point) in zip(colours, points, strict=True)
        )
        return Layout(items, "cube_0", "bowl_0")

    def instruction(self, rng: np.random.Generator, target: str, goal: str) -> str:
        """Name the cube and the bowl."""
        return phrase(rng, TEMPLATES, target=[target], goal=[goal], cube=("cube", "block"), bowl=("bowl", "dish"))

    def success(self, scene: Scene) -> bool:
        """Return whether the cube lies still in the bowl and the gripper has let go of it."""
        layout = scene.shown
        away = scene.position(layout.target) - scene.position(layout.goal)
        inside = np.hypot(away[0], away[1]) <= BOWL_INNER_M and 0.0 < away[2] <= BOWL_HEIGHT_M
        at_rest = scene.speed(layout.target) < SLOW_M_S
        return bool(inside and at_rest and not scene.fingers_on(layout.target))

    def goal_position(self, scene: Scene) -> tuple[float, float, float]:
        """Return where the cube's centre would be in the middle of the bowl."""
        x, y, _ = scene.position(scene.shown.goal)
        return x, y, BOWL_FLOOR_M + CUBE_HALF_M

    def motion(self, view: View) -> Aim:
        """Return what the expert of envs.motions wants next."""
        return motions.pick_place(view)


TASK = PickPlace()

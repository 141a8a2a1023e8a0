"""Stack: set the named cube on top of another named cube and let go of it."""

from __future__ import annotations

import numpy as np

from envs import motions
from envs.layout import CUBE_HALF_M, Item, Layout, Region, clear_of, draw_colours, draw_until
from envs.motions import Aim, View
from envs.scene import Scene
from envs.tasks import SLOW_M_S, phrase

CENTRED_M = CUBE_HALF_M  # beyond half a cube it would topple
HEIGHT_TOLERANCE_M = 0.005

TEMPLATES = (
    "stack the {target} {cube} on the {goal} {cube}",
    "stack the {target} {cube} on top of the {goal} {cube}",
    "stack the {target} {cube} onto the {goal} one",
    "put the {target} {cube} on the {goal} {cube}",
    "put the {target} {cube} on top of the {goal} {cube}",
    "put the {target} {cube} onto the {goal} one",
    "place the {target} {cube} on the {goal} {cube}",
    "place the {target} {cube} on top of the {goal} {cube}",
    "place the {target} {cube} atop the {goal} {cube}",
    "set the {target} {cube} on the {goal} {cube}",
    "set the {target} {cube} on top of the {goal} one",
    "set the {target} {cube} down on the {goal} {cube}",
    "lay the {target} {cube} on the {goal} {cube}",
    "pick up the {target} {cube} and stack it on the {goal} {cube}",
    "pick up the {target} {cube} and put it on the {goal} one",
    "take the {target} {cube} and place it on the {goal} {cube}",
    "grab the {target} {cube} and set it on the {goal} {cube}",
    "lift the {target} {cube} onto the {goal} {cube}",
    "build a tower with the {target} {cube} on the {goal} {cube}",
    "make a tower: the {target} {cube} on the {goal} {cube}",
    "the {target} {cube} goes on top of the {goal} {cube}",
    "on the {goal} {cube}, stack the {target} {cube}",
    "on top of the {goal} {cube}, put the {target} {cube}",
    "balance the {target} {cube} on the {goal} {cube}",
)


class Stack:
    """Stack one of three cubes on another."""

    name = "stack"
    horizon = 150

    def layout(self, rng: np.random.Generator) -> Layout:
        """Draw three cubes: the one to move, the one to stack it on, and one to leave alone."""
        target_in, base_in = Region(), Region(near_m=0.15, far_m=0.225, side_m=0.12)
        colours = draw_colours(rng, 3)

        def draw() -> Layout | None:
            points = [target_in.draw(rng), base_in.draw(rng), target_in.draw(rng)]
            if not all(clear_of(point, points[:i], 0.08) for i, point in enumerate(points)):
                return None
            items = tuple(
                Item(f"cube_{i}", colour, (point[0], point[1]), rng.uniform(-np.pi, np.pi))
                for i, (colour, point) in enumerate(zip(colours, points, strict=True))
            )
            return Layout(items, "cube_0", "cube_1")

        return draw_until(draw)

    def instruction(self, rng: np.random.Generator, target: str, goal: str) -> str:
        """Name the cube to move and the cube to stack it on."""
        return phrase(rng, TEMPLATES, target=[target], goal=[goal], cube=("cube", "block"))

    def success(self, scene: Scene) -> bool:
        """Return whether the cube rests on the other, still and released."""
        layout = scene.shown
        away = scene.position(layout.target) - scene.position(layout.goal)
        centred = np.hypot(away[0], away[1]) <= CENTRED_M
        level = abs(away[2] - 2 * CUBE_HALF_M) <= HEIGHT_TOLERANCE_M
        rests = scene.rests_on(layout.target, layout.goal) and scene.speed(layout.target) < SLOW_M_S
        return bool(centred and level and rests and not scene.fingers_on(layout.target))

    def goal_position(self, scene: Scene) -> tuple[float, float, float]:
        """Return where the cube's centre would be on top of the other."""
        x, y, z = scene.position(scene.shown.goal)
        return x, y, z + 2 * CUBE_HALF_M

    def motion(self, view: View) -> Aim:
        """Return what the expert of envs.motions wants next."""
        return motions.stack(view)


TASK = Stack()

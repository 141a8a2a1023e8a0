"""Push: slide the named cube along the table into the named zone."""

from __future__ import annotations

import numpy as np

from envs import motions
from envs.layout import CUBE_HALF_M, Item, Layout, Region, clear_of, draw_colours, draw_until
from envs.motions import Aim, View
from envs.scene import Scene
from envs.tasks import SLOW_M_S, phrase

WITHIN_M = 0.045
ON_TABLE_M = CUBE_HALF_M + 0.004
START_M = (0.09, 0.16)  # from the cube to the zone's centre
BEHIND_M = 0.045  # room behind the cube for the gripper to push from

TEMPLATES = (
    "push the {target} {cube} into the {goal} {zone}",
    "push the {target} {cube} to the {goal} {zone}",
    "push the {target} {cube} onto the {goal} {zone}",
    "slide the {target} {cube} into the {goal} {zone}",
    "slide the {target} {cube} to the {goal} {zone}",
    "slide the {target} {cube} onto the {goal} {zone}",
    "shove the {target} {cube} into the {goal} {zone}",
    "shove the {target} {cube} onto the {goal} {zone}",
    "nudge the {target} {cube} into the {goal} {zone}",
    "nudge the {target} {cube} to the {goal} {zone}",
    "sweep the {target} {cube} into the {goal} {zone}",
    "sweep the {target} {cube} onto the {goal} {zone}",
    "move the {target} {cube} along the table to the {goal} {zone}",
    "move the {target} {cube} into the {goal} {zone} by pushing it",
    "get the {target} {cube} into the {goal} {zone} without lifting it",
    "use the gripper to push the {target} {cube} to the {goal} {zone}",
    "the {target} {cube} should be pushed into the {goal} {zone}",
    "make the {target} {cube} slide onto the {goal} {zone}",
    "into the {goal} {zone}, push the {target} {cube}",
    "onto the {goal} {zone}, slide the {target} {cube}",
    "guide the {target} {cube} to the {goal} {zone}",
    "bring the {target} {cube} across the table to the {goal} {zone}",
)


class Push:
    """Push one of two cubes into one of two zones."""

    name = "push"
    horizon = 150

    def layout(self, rng: np.random.Generator) -> Layout:
        """Draw two cubes and two zones, with room to push the target straight to its zone."""
        colours = draw_colours(rng, 4)
        return draw_until(lambda: self._draw(rng, colours))

    def _draw(self, rng: np.random.Generator, colours: list[str]) -> Layout | None:
        region, room_behind = Region(), Region(near_m=0.12, far_m=0.265, azimuth_rad=1.0, side_m=0.18)
        zones_in = Region(side_m=0.12)
        cube, other_cube, zone, other_zone = (r.draw(rng) for r in (region, region, zones_in, zones_in))
        distance = np.hypot(*(zone - cube))
        if not START_M[0] <= distance <= START_M[1]:
            return None
        direction = (zone - cube) / distance
        along = [cube + direction * s for s in np.arange(-BEHIND_M, distance, 0.02)]
        if not room_behind.holds(along[0]) or not clear_of(other_cube, along, 0.07):
            return None
        if not clear_of(other_zone, [cube, other_cube], 0.08) or not clear_of(other_zone, [zone], 0.115):
            return None
        if not clear_of(other_cube, [zone], 0.08):
            return None
        points = zip(("cube_0", "cube_1", "zone_0", "zone_1"), (cube, other_cube, zone, other_zone), strict=True)
        items = tuple(
            Item(name, colour, (point[0], point[1]), rng.uniform(-np.pi, np.pi))
            for colour, (name, point) in zip(colours, points, strict=True)
        )
        return Layout(items, "cube_0", "zone_0")

    def instruction(self, rng: np.random.Generator, target: str, goal: str) -> str:
        """Name the cube and the zone."""
        zones = ("zone", "circle", "disc", "spot", "area")
        return phrase(rng, TEMPLATES, target=[target], goal=[goal], cube=("cube", "block"), zone=zones)

    def success(self, scene: Scene) -> bool:
        """Return whether the cube lies still in the zone, on the table and not between the fingers."""
        layout = scene.shown
        cube = scene.position(layout.target)
        distance = np.hypot(*(cube - scene.position(layout.goal))[:2])
        lies = cube[2] <= ON_TABLE_M and scene.speed(layout.target) < SLOW_M_S
        return bool(distance <= WITHIN_M and lies and scene.held != layout.target)

    def goal_position(self, scene: Scene) -> tuple[float, float, float]:
        """Return where the cube's centre would be in the middle of the zone."""
        x, y, _ = scene.position(scene.shown.goal)
        return x, y, CUBE_HALF_M

    def motion(self, view: View) -> Aim:
        """Return what the expert of envs.motions wants next."""
        return motions.push(view)


TASK = Push()

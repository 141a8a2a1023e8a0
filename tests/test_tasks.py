"""Every task lays out a fair scene, says what it wants, and knows when it has got it."""

import re

import numpy as np
import pytest

from envs.layout import BOWL_RADIUS_M, COLOURS, PAN_AXIS_X_M, Layout
from envs.scene import Scene
from envs.so101 import HOME_RAD
from envs.tasks import Task, all_tasks, pick_place, push, reach, stack

TASKS = all_tasks()
EACH_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
SEEDS = range(60)


def layouts(task: Task) -> list[Layout]:
    return [task.layout(np.random.default_rng(seed)) for seed in SEEDS]


def shown(scene: Scene, task: Task, seed: int = 0) -> Layout:
    layout = task.layout(np.random.default_rng(seed))
    scene.reset(layout, HOME_RAD)
    return layout


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_the_four_tasks_are_found_by_being_there() -> None:
    assert list(TASKS) == ["pick_place", "push", "reach", "stack"]
    assert [TASKS[m.__name__.rpartition(".")[2]].name for m in (pick_place, push, reach, stack)] == list(TASKS)


@EACH_TASK
def test_every_item_of_a_scene_has_its_own_colour(task: Task) -> None:
    for layout in layouts(task):
        colours = [item.colour for item in layout.items]
        assert len(set(colours)) == len(colours) and set(colours) <= set(COLOURS)


@EACH_TASK
def test_everything_named_has_a_distractor_of_its_kind(task: Task) -> None:
    for layout in layouts(task):
        target, goal = layout.misdirected()
        assert target not in (layout.target, layout.goal)
        assert goal != layout.goal
        assert layout.item(target).kind == layout.item(layout.target).kind
        assert layout.item(goal).kind == layout.item(layout.goal).kind
        assert (target == goal) == (layout.target == layout.goal)


@EACH_TASK
def test_everything_stands_within_reach_and_apart(task: Task) -> None:
    for layout in layouts(task):
        for item in layout.items:
            assert 0.139 <= np.hypot(item.xy_m[0] - PAN_AXIS_X_M, item.xy_m[1]) <= 0.251
        solid = [item for item in layout.items if item.kind != "zone"]
        for i, one in enumerate(solid):
            for other in solid[:i]:
                room = sum(BOWL_RADIUS_M if item.kind == "bowl" else 0.0 for item in (one, other))
                assert np.hypot(*np.subtract(one.xy_m, other.xy_m)) > room + 0.009 + 0.03 * ("cube" in one.kind)


@EACH_TASK
def test_layouts_differ_from_seed_to_seed_and_the_first_colours_vary(task: Task) -> None:
    drawn = layouts(task)
    assert len({layout.items[0].xy_m for layout in drawn}) == len(drawn)
    assert {layout.item(layout.target).colour for layout in drawn} == set(COLOURS)


@EACH_TASK
def test_every_instruction_names_the_colours_it_is_about(task: Task) -> None:
    rng = np.random.default_rng(0)
    said = {task.instruction(rng, "red", "green") for _ in range(1000)}
    needed = {"red"} if task.name == "reach" else {"red", "green"}
    for sentence in said:
        assert set(re.findall("|".join(COLOURS), sentence)) == needed
        assert re.fullmatch(r"[a-z ,:]+", sentence), sentence
    assert len(said) >= 40


@EACH_TASK
def test_no_episode_begins_with_success(scene: Scene, task: Task) -> None:
    for seed in range(20):
        shown(scene, task, seed)
        assert not task.success(scene)


def settle(scene: Scene, ticks: int = 30) -> None:
    for _ in range(ticks):
        scene.advance(HOME_RAD)


def test_reach_succeeds_with_the_tip_above_the_named_cube_and_no_other(scene: Scene) -> None:
    layout = shown(scene, TASKS["reach"])
    tip = scene.gripper_position
    scene.place("cube_1", tip - [0, 0, reach.ABOVE_M + 0.015])
    assert not TASKS["reach"].success(scene)
    here = np.array([*layout.item("cube_0").xy_m, 0.015])
    task = TASKS["reach"]
    assert np.linalg.norm(np.array(task.goal_position(scene)) - here - [0, 0, 0.035]) < 1e-3


def test_reach_does_not_count_once_the_cube_is_knocked_away(scene: Scene) -> None:
    shown(scene, TASKS["reach"])
    scene.place("cube_0", scene.gripper_position - [0, 0, 0.035])
    assert not TASKS["reach"].success(scene)


def test_push_succeeds_with_the_named_cube_at_rest_in_the_named_zone(scene: Scene) -> None:
    task = TASKS["push"]
    shown(scene, task)
    for cube, zone, expected in (("cube_0", "zone_0", True), ("cube_0", "zone_1", False), ("cube_1", "zone_0", False)):
        shown(scene, task)
        scene.place(cube, np.add(scene.position(zone), [0.02, 0, 0.016]))
        settle(scene)
        assert task.success(scene) == expected
    shown(scene, task)
    scene.place("cube_0", np.add(scene.position("zone_0"), [0, 0, 0.1]))
    assert not task.success(scene), "a cube in the air is not in the zone"


def test_pick_place_succeeds_with_the_named_cube_at_rest_in_the_named_bowl(scene: Scene) -> None:
    task = TASKS["pick_place"]
    for cube, bowl, expected in (("cube_0", "bowl_0", True), ("cube_0", "bowl_1", False), ("cube_1", "bowl_0", False)):
        shown(scene, task)
        scene.place(cube, np.add(scene.position(bowl), [0.01, 0, 0.06]))
        assert not task.success(scene), "a cube above the bowl is not in it"
        settle(scene)
        assert task.success(scene) == expected


def test_stack_succeeds_with_the_named_cube_at_rest_on_the_other(scene: Scene) -> None:
    task = TASKS["stack"]
    for cube, base, expected in (("cube_0", "cube_1", True), ("cube_0", "cube_2", False), ("cube_1", "cube_0", False)):
        shown(scene, task)
        scene.place(cube, np.add(scene.position(base), [0.003, 0, 0.031]))
        settle(scene)
        assert task.success(scene) == expected


def test_the_goal_position_is_where_success_is(scene: Scene) -> None:
    for name in ("push", "pick_place", "stack"):
        task = TASKS[name]
        layout = shown(scene, task)
        scene.place(layout.target, np.add(task.goal_position(scene), [0, 0, 0.001]))
        settle(scene)
        assert task.success(scene)
        assert scene.position(layout.target) == pytest.approx(task.goal_position(scene), abs=0.003)

"""The scene shows a layout, moves under its servos, and answers truthfully what is where."""

import numpy as np
import pytest

from envs.boxes import box
from envs.cameras import Cameras
from envs.layout import COLOURS, Item, Layout
from envs.scene import TICK_S, Scene

ARM = np.array([0.0, -1.3, 0.45, 1.4, 0.0, 0.7])
LAYOUT = Layout(
    (
        Item("cube_0", "red", (0.20, 0.08), 0.3),
        Item("cube_1", "blue", (0.27, -0.02), 1.0),
        Item("bowl_0", "green", (0.21, -0.09)),
        Item("zone_0", "cyan", (0.16, 0.02)),
    ),
    "cube_0",
    "bowl_0",
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture(autouse=True)
def begin(scene: Scene) -> None:
    scene.reset(LAYOUT, ARM)


def test_items_stand_where_the_layout_says(scene: Scene) -> None:
    for item in LAYOUT.items:
        assert scene.position(item.name)[:2] == pytest.approx(item.xy_m, abs=1e-3)
        assert scene.speed(item.name) < 1e-3 if item.kind == "cube" else True


def test_a_tick_of_the_servos_is_a_tick_of_time(scene: Scene) -> None:
    scene.advance(ARM)
    assert scene.time_ns == round(TICK_S * 1e9)


def test_the_arm_goes_where_it_is_told(scene: Scene) -> None:
    target = ARM + np.array([0.3, 0.1, -0.1, 0.1, 0.4, 0.3])
    for _ in range(50):
        scene.advance(target)
    assert scene.arm_rad == pytest.approx(target, abs=0.02)


def test_a_cube_dropped_from_inside_a_bowl_stays_in(scene: Scene) -> None:
    for offset in ((0.0, 0.0), (0.02, 0.0), (-0.015, 0.015)):
        scene.reset(LAYOUT, ARM)
        scene.place("cube_0", scene.position("bowl_0") + np.array([*offset, 0.07]), 0.4)
        for _ in range(50):
            scene.advance(ARM)
        away = scene.position("cube_0") - scene.position("bowl_0")
        assert np.hypot(away[0], away[1]) < 0.035 and 0.01 < away[2] < 0.03
        assert scene.rests_on("cube_0", "bowl_0") and scene.speed("cube_0") < 0.01


def test_a_cube_set_on_another_stays_there(scene: Scene) -> None:
    scene.place("cube_0", scene.position("cube_1") + np.array([0.005, 0.0, 0.031]), 0.2)
    for _ in range(100):
        scene.advance(ARM)
    assert scene.rests_on("cube_0", "cube_1")
    assert scene.position("cube_0")[2] == pytest.approx(0.045, abs=0.002)


def test_what_a_layout_leaves_out_is_neither_drawn_nor_touched(scene: Scene) -> None:
    for name in ("cube_2", "cube_3", "bowl_1", "zone_1"):
        assert scene.position(name)[2] < -0.4
        assert (scene.model.geom_group[scene.model.geom_bodyid == scene.model.body(name).id] > 2).all()
    for _ in range(250):
        scene.advance(ARM)
    assert scene.position("cube_3")[2] == pytest.approx(-0.5, abs=0.01)


def test_a_reset_leaves_nothing_of_the_episode_before(scene: Scene) -> None:
    before = scene.data.qpos.copy()
    scene.advance(ARM + 0.3)
    scene.place("cube_1", np.array([0.3, 0.1, 0.2]))
    scene.reset(LAYOUT, ARM)
    np.testing.assert_array_equal(scene.data.qpos, before)


def test_an_object_in_nobodys_hand_is_not_held(scene: Scene) -> None:
    assert scene.held is None
    assert scene.fingers_on("cube_0") == frozenset()


@pytest.mark.parametrize("name", ["cube_0", "cube_1", "bowl_0", "zone_0"])
def test_the_box_of_an_object_holds_its_pixels(scene: Scene, name: str) -> None:
    size = 256
    cameras = Cameras(scene.model, size)
    frame = cameras.draw(scene.data, ["front"])["front"].astype(float)
    cameras.close()
    rgb = np.array(COLOURS[LAYOUT.item(name).colour])
    cosine = (frame @ rgb) / (np.linalg.norm(frame, axis=2) * np.linalg.norm(rgb) + 1e-9)
    rows, columns = np.nonzero(cosine > 0.995)
    found = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]) / size
    assert box(scene, name, "front") == pytest.approx(found, abs=3 / size)

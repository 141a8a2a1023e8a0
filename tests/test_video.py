"""A video shows the camera views at the control rate, the instruction, the step and the outcome."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from embodied.errors import UnknownNameError
from embodied.loop import run_episode
from embodied.recording.video import (
    BANNER_S,
    CAPTION_HEIGHT_PX,
    GREEN,
    GROUND,
    RED,
    VIEW_HEIGHT_PX,
    VideoRecorder,
    canvas_size,
    choose_cameras,
    contact_sheet,
    draw,
    read_video,
    write_png,
)
from policies.hold import make as make_hold
from tests.dummy_robot import HORIZON, DummyRobot
from tests.test_loop import BlindedRobot
from tests.wave_policy import WavePolicy


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "wait.mp4"
    robot, policy = DummyRobot(), make_hold()
    with VideoRecorder(path, robot.spec, policy) as recorder:
        run_episode(robot, policy, task="wait", seed=1, observers=[recorder])
    return path


def first_view(boxes=None, outcome=None, text="reach for the red cube"):
    robot = DummyRobot()
    observation = robot.reset(0, "reach")
    return draw(observation, robot.spec.cameras, text=text, steps=3, outcome=outcome, boxes=boxes or {})


def ground(image):
    """Return the colour behind the caption."""
    return image[VIEW_HEIGHT_PX + 1, -1]


def test_the_video_is_h264_at_the_control_rate_with_a_frame_a_step_and_a_banner(video):
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.average_rate == 10
        assert (stream.width, stream.height) == canvas_size(DummyRobot().spec.cameras)
    frames = list(read_video(video))
    assert len(frames) == 1 + HORIZON + round(BANNER_S * 10)
    np.testing.assert_allclose(ground(frames[0]), GROUND, atol=12)
    np.testing.assert_allclose(ground(frames[-1]), RED, atol=12)


@pytest.mark.parametrize(("outcome", "colour"), [(None, GROUND), (True, GREEN), (False, RED)])
def test_the_caption_has_the_colour_of_the_outcome(outcome, colour):
    assert tuple(ground(first_view(outcome=outcome))) == colour


def test_views_stand_side_by_side_in_their_own_proportions():
    image = first_view()
    assert image.shape == (VIEW_HEIGHT_PX + CAPTION_HEIGHT_PX, 384 + 512, 3)  # 224x224 and 24x32


def test_the_instruction_is_written_and_an_odd_one_breaks_nothing():
    long = "pick up the red cube and " * 20
    pictures = [first_view(text=text).tobytes() for text in ("reach", "push", long, "x" * 900, "你好 ✋")]
    assert len(set(pictures)) == len(pictures)


def test_a_policys_boxes_are_drawn_on_the_front_view_alone():
    plain, boxed = first_view(), first_view({"target": (0.25, 0.25, 0.75, 0.5)})
    changed = (plain != boxed).any(axis=-1)
    assert changed[:, :384].any() and not changed[:, 384:].any() and not changed[VIEW_HEIGHT_PX:].any()
    assert changed[192, 96] and not changed[192, 144]  # its edge, not its inside


def test_cameras_are_chosen_by_name():
    spec = DummyRobot().spec
    assert [c.name for c in choose_cameras(spec, [])] == ["front", "wrist"]
    assert [c.name for c in choose_cameras(spec, ["wrist"])] == ["wrist"]
    with pytest.raises(UnknownNameError, match=r"no camera 'side'; dummy has \['front', 'wrist'\]"):
        choose_cameras(spec, ["side"])


def test_an_episode_whose_camera_drops_out_is_filmed_to_its_end(tmp_path):
    robot = BlindedRobot(sees_for=6)
    with VideoRecorder(tmp_path / "blinded.mp4", robot.spec, WavePolicy(chunk=3)) as recorder:
        episode = run_episode(robot, WavePolicy(chunk=3), task="wait", seed=0, observers=[recorder])
    frames = list(read_video(tmp_path / "blinded.mp4"))
    assert episode.steps == HORIZON and len(frames) == 1 + HORIZON + round(BANNER_S * 10)
    assert [np.allclose(frame[:300, 384:], GROUND, atol=12) for frame in frames[:8]] == [False] * 6 + [True] * 2
    assert not np.allclose(frames[-1][:300, :384], GROUND, atol=12)  # the other camera still sees


def test_a_camera_that_has_no_frame_at_the_start_is_a_blank_view():
    robot = DummyRobot()
    blind = replace(robot.reset(0, "reach"), frames={})
    image = draw(blind, robot.spec.cameras, text="reach", steps=0, outcome=None, boxes={"target": (0.2, 0.2, 0.7, 0.7)})
    assert image.shape == first_view().shape and (image[:350] == GROUND).all()


def test_a_contact_sheet_shows_how_every_video_ended(video, tmp_path):
    write_png(tmp_path / "sheet.png", contact_sheet([video] * 3))
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    assert sheet.shape == (2 * 230, 2 * 448, 3)
    np.testing.assert_allclose(sheet[225, 440], RED, atol=12)
    np.testing.assert_allclose(sheet[-5, -8], GROUND, atol=12)  # no fourth

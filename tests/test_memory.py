"""What a policy remembers while it acts is what training shows it of the same moment, or less, never something else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embodied.errors import EmbodiedError
from embodied.recording.reader import DatasetReader
from embodied.types import Observation
from policies.examples import Examples
from policies.memory import Memory, require_horizon
from tests.tiny_policy import TOY_PLAN, record_toy, tiny_vocabulary

STEP_NS = 100_000_000
STRIDE = 3
PLAN = replace(TOY_PLAN, history=3, history_stride=STRIDE)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    return DatasetReader(record_toy(tmp_path_factory.mktemp("toy") / "data", episodes=1))


def observed(step: int, frame: np.ndarray) -> Observation:
    return Observation(step * STEP_NS, {"front": frame}, np.zeros(2, np.float32), "reach")


def remembered(reader: DatasetReader, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Look every horizon steps; return the rows looked at, which earlier row each frame is of, and which there was.

    The toy robot's frames have the number of their step in their second colour, up to what JPEG makes of it.
    """
    memory, rows = Memory(PLAN), np.arange(0, len(reader), horizon)
    seen = [memory.recall(observed(int(row), reader.frame("front", row))) for row in rows]
    of = [[_row(reader, frame) for frame in past] for past, _ in seen]
    return rows, np.array(of), np.array([there for _, there in seen])


def _row(reader: DatasetReader, frame: np.ndarray) -> int:
    frames = reader.frames("front", range(len(reader))).astype(int)
    return int(np.abs(frames - frame).sum((1, 2, 3)).argmin())


@pytest.mark.parametrize("horizon", [1, STRIDE])
def test_one_who_looks_every_step_or_every_stride_remembers_what_training_shows(
    reader: DatasetReader, horizon: int
) -> None:
    rows, of, there = remembered(reader, horizon)
    samples = Examples(reader, PLAN, tiny_vocabulary()).samples(rows)
    np.testing.assert_array_equal(there, samples.remembered)
    expected = np.array([[_row(reader, frame) for frame in past] for past in samples.past])
    np.testing.assert_array_equal(of[there], expected[there])
    assert there.any() and not there.all()


@pytest.mark.parametrize("horizon", range(1, 8))
def test_at_any_horizon_frames_are_near_their_time_each_once_and_none_is_before_one_that_lacks(
    reader: DatasetReader, horizon: int
) -> None:
    rows, of, there = remembered(reader, horizon)
    wanted = rows[:, None] - STRIDE * (1 + np.arange(PLAN.history))
    assert (np.abs(of - wanted)[there] <= STRIDE / 2 + 0.5).all()
    assert (there[:, :-1] >= there[:, 1:]).all()
    assert (np.diff(of, axis=1)[there[:, 1:]] < 0).all()


def test_a_horizon_at_which_nothing_is_ever_remembered_is_refused(reader: DatasetReader) -> None:
    for horizon in range(1, 9):
        if remembered(reader, horizon)[2].any():
            require_horizon(PLAN, horizon)
        else:
            with pytest.raises(EmbodiedError, match=f"horizon {horizon}: .* every 5 steps or oftener"):
                require_horizon(PLAN, horizon)
    require_horizon(replace(PLAN, history=0), 8)


def test_a_new_episode_begins_with_nothing_remembered() -> None:
    memory, frame = Memory(PLAN), np.ones((16, 16, 3), np.uint8)
    for step in range(5):
        _, there = memory.recall(observed(step, frame))
    assert there.any()
    memory.forget()
    assert not memory.recall(observed(5, frame))[1].any()


def test_a_robot_without_a_camera_has_nothing_to_remember() -> None:
    plan = replace(PLAN, spec=replace(PLAN.spec, cameras=()))
    past, there = Memory(plan).recall(Observation(0, {}, np.zeros(2, np.float32), "reach"))
    assert past.shape == (3, 0, 0, 3) and not there.any()

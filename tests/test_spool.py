"""Every row that the recorder was given before a fault is on the disk after it, and is what the robot sent."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import InvalidObservationError, ProtocolError
from embodied.loop import run_episode
from embodied.recording import jpeg
from embodied.recording.format import DatasetError
from embodied.recording.reader import DatasetReader
from embodied.recording.rollout import RolloutRecorder, join
from embodied.recording.spool import Spool
from embodied.types import Action, PoseAction, Robot, Step
from tests.test_rollout_recording import Reacher
from tests.toy_world import ToyRobot

SEED, TASK, TIMEOUT_S = 17, "push", 60.0  # the toy robot never succeeds on a seed that ends in 7
STEPS = 30


class Fault(ToyRobot):
    """Fails at its step number `at`, in a way of its own."""

    def __init__(self, at: int, how: str) -> None:
        super().__init__(16, -1)
        self.at, self.how = at, how

    def step(self, *actions: Action, frames: bool = True) -> Step:
        if self.steps == self.at:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ProtocolError("the robot's server is gone")
        return super().step(*actions, frames=frames)


def assert_replays(reader: DatasetReader, robot: Robot) -> None:
    """Check every state and every frame, byte for byte, against the robot doing it all again."""
    for episode in reader.episodes:
        observation = robot.reset(episode.seed, episode.task)
        for row in range(episode.start, episode.stop):
            assert np.array_equal(reader.state[row], observation.state)
            for camera in reader.cameras:
                assert bytes(reader.jpeg(camera, row)) == jpeg.encode(observation.frames[camera])
            observation = robot.step(PoseAction(reader.action[row])).observation


def run(folder: Path, at: int, how: str, bytes_at_most: int = -1) -> None:
    """Record an episode that meets its fault; leave the steps that were carried out in folder/steps."""
    if bytes_at_most >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_at_most, resource.RLIM_INFINITY))
    robot = Fault(at, how)
    with (
        contextlib.suppress(ProtocolError, DatasetError),
        RolloutRecorder(folder / "1.arrow", robot.spec, task=TASK, seed=SEED) as recorder,
    ):
        run_episode(robot, Reacher(), task=TASK, seed=SEED, observers=[recorder])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    (folder / "steps").write_text(str(robot.steps))


def killed(folders: Sequence[str], at: Sequence[int]) -> None:
    """Record an episode a folder, each in a process that is killed in the middle of step `at` of it."""
    for folder, step in zip(folders, at, strict=True):
        pid = os.fork()
        if not pid:
            run(Path(folder), step, "kill")
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def read(folder: Path) -> DatasetReader:
    interrupted = join(sorted(folder.glob("1.arrow*")), folder / "dataset", {})
    assert len(interrupted) == 1
    reader = DatasetReader(folder / "dataset")
    assert reader.collection == {"interrupted": interrupted} and interrupted[0]["frames"] == len(reader)
    assert not reader.episodes[0].success and not reader.done.any()
    return reader


def trials(tmp_path: Path, numbers: np.ndarray) -> Iterator[tuple[Path, int]]:
    for trial, number in enumerate(numbers):
        (folder := tmp_path / str(trial)).mkdir()
        yield folder, int(number)


def test_no_row_is_lost_when_the_process_is_killed_at_a_random_step(tmp_path):
    found = list(trials(tmp_path, np.random.default_rng(0).integers(1, STEPS, 50)))
    # A process of its own that forks: this one may have threads of other tests.
    arguments = f"{[str(folder) for folder, _ in found]}, {[at for _, at in found]}"
    program = f"from tests.test_spool import killed; killed({arguments})"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=TIMEOUT_S)
    for folder, at in found:
        reader = read(folder)
        assert len(reader) == at  # every step that was carried out
        assert_replays(reader, ToyRobot(16, -1))


def test_no_row_is_lost_when_the_robot_fails_at_a_random_step(tmp_path):
    for folder, at in trials(tmp_path, np.random.default_rng(0).integers(1, STEPS, 50)):
        run(folder, at, "error")
        reader = read(folder)
        assert len(reader) == at
        assert_replays(reader, ToyRobot(16, -1))


def test_no_row_is_lost_when_the_disk_is_full_in_the_middle_of_one(tmp_path):
    for folder, size in trials(tmp_path, np.random.default_rng(1).integers(6_000, 40_000, 50)):
        run(folder, -1, "error", bytes_at_most=size)
        reader = read(folder)
        assert len(reader) == int((folder / "steps").read_text()) - 1 < STEPS  # all but the one that did not fit
        assert_replays(reader, ToyRobot(16, -1))


def test_a_full_disk_names_the_file(tmp_path):
    (tmp_path / "1.arrow.partial").symlink_to("/dev/full")
    robot = ToyRobot(16, -1)
    with (
        pytest.raises(DatasetError, match=r"1\.arrow\.partial: cannot be written: .*No space left"),
        RolloutRecorder(tmp_path / "1.arrow", robot.spec, task=TASK, seed=SEED) as recorder,
    ):
        run_episode(robot, Reacher(), task=TASK, seed=SEED, observers=[recorder])


def test_a_spool_cut_anywhere_reads_up_to_its_last_whole_row(tmp_path):
    folder = tmp_path / "whole"
    folder.mkdir()
    run(folder, 4, "error")
    data, cut = (folder / "1.arrow.partial").read_bytes(), tmp_path / "1.arrow.partial"
    rows = []
    for size in (*range(0, len(data), 7), len(data)):
        cut.write_bytes(data[:size])
        rows.append(Spool(cut).rows)
    assert rows == sorted(rows) and {*rows} == {0, 1, 2, 3, 4}


def test_an_episode_that_ended_is_no_interrupted_one(tmp_path):
    run(tmp_path, -1, "error")
    assert (tmp_path / "steps").read_text() == str(STEPS)
    assert join([tmp_path / "1.arrow"], tmp_path / "dataset", {}) == []
    reader = DatasetReader(tmp_path / "dataset")
    assert reader.collection == {} and len(reader) == STEPS and reader.done[-1]


def test_spools_without_a_row_are_left_out_and_none_at_all_is_an_error(tmp_path):
    for name, at in (("a", 0), ("b", 3)):
        (tmp_path / name).mkdir()
        run(tmp_path / name, at, "error")
    empty, some = (tmp_path / name / "1.arrow.partial" for name in "ab")
    with pytest.raises(DatasetError, match="no episode to write"):
        join([empty], tmp_path / "none", {})
    join([empty, some], tmp_path / "one", {})
    assert len(DatasetReader(tmp_path / "one").episodes) == 1


def test_a_robot_that_sends_no_frame_of_a_camera_cannot_be_recorded(tmp_path):
    class Blind(ToyRobot):
        def _observe(self):
            observation = super()._observe()
            return type(observation)(observation.time_ns, {}, observation.state, observation.instruction)

    robot = Blind(16, -1)
    with (
        pytest.raises(InvalidObservationError, match=r"toy sent no frame of \['front'\]"),
        RolloutRecorder(tmp_path / "1.arrow", robot.spec, task=TASK, seed=SEED) as recorder,
    ):
        run_episode(robot, Reacher(), task=TASK, seed=SEED, observers=[recorder])

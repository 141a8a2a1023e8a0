"""Whatever ends a rollout, what was recorded up to then is a dataset, and the user is told where."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from embodied.cli import main
from embodied.recording.reader import DatasetReader
from embodied.recording.video import read_video
from tests.faults.processes import host
from tests.faults.wire import status
from tests.test_cli import hosting
from tests.test_spool import assert_replays
from tests.toy_world import ToyRobot

EMBODIED = [sys.executable, "-m", "embodied"]
ENDLESS = ["--policy", "policies.hold", "--task", "push", "--episodes", "20000", "--record", "20000", "--videos", "0"]
TOY = ["rollout", "--robot", "tests.toy_world", "--policy", "policies.hold", "--task", "push"]
TIMEOUT_S = 60.0


@contextmanager
def rollout(out: Path, *arguments: str, how: Sequence[str] = ENDLESS) -> Iterator[subprocess.Popen[str]]:
    command = [*EMBODIED, "rollout", *arguments, *how, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_rows(out: Path, rng: np.random.Generator) -> None:
    """Wait until a random number of bytes of a random episode are on the disk."""
    spools, episode, size = (
        out.with_name("out.partial") / "recording" / "episodes",
        rng.integers(4),
        rng.integers(5_000, 14_000),  # the head takes about 3000 bytes, a row 1850: one row at least is there
    )

    def there() -> bool:
        files = [*spools.glob(f"{episode:06d}.arrow*")]
        return bool(files) and (files[0].suffix == ".arrow" or files[0].stat().st_size > size)

    wait_until(there)


def recording(partial: Path) -> DatasetReader:
    """Return what was kept, after checking every frame, and that all that ended are there."""
    reader = DatasetReader(partial / "recording")
    assert_replays(reader, ToyRobot(16, -1))
    cut = reader.collection.get("interrupted", [])
    assert len(cut) <= 1 and all(entry["frames"] < 30 for entry in cut)
    ended = (partial / "episodes.jsonl").read_text().splitlines()
    whole = [e for e in reader.episodes if e.seed not in [entry["seed"] for entry in cut]]
    assert {json.loads(line)["seed"] for line in ended} <= {e.seed for e in whole}
    assert all(e.stop - e.start == 30 for e in whole)
    return reader


@pytest.mark.parametrize("trial", range(5))
def test_when_the_server_is_killed_what_was_recorded_is_a_dataset(trial, tmp_path):
    out = tmp_path / "out"
    with (
        hosting("host", "tests.toy_world", "--address", "127.0.0.1:0") as (server, line),
        rollout(out, "--robot", line.split()[-1]) as process,
    ):
        wait_for_rows(out, np.random.default_rng(trial))
        server.kill()
        assert process.stderr is not None
        printed = process.stderr.read()
        assert process.wait(TIMEOUT_S) == 2
    *_, kept, error = printed.strip().splitlines()
    assert error.startswith("error: ") and "Traceback" not in printed
    frames, where = re.search(r"(\d+) frames, in (\S+)/recording", kept).groups()  # type: ignore[union-attr]
    assert Path(where) == tmp_path / "out.partial" and len(recording(Path(where))) == int(frames)
    assert not out.exists()


@pytest.mark.parametrize("trial", range(3))
def test_when_the_rollout_itself_is_killed_recover_makes_the_dataset(trial, tmp_path, capfd):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with rollout(out, "--robot", "tests.toy_world") as process:
        wait_for_rows(out, np.random.default_rng(10 + trial))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
    on_disk = len([*(partial / "recording" / "episodes").iterdir()])
    assert main(["recover", str(partial)]) == 0
    assert "frames, in " in capfd.readouterr().out
    assert len(recording(partial).episodes) in (on_disk, on_disk - 1)  # the last may have had no row yet
    assert main(["recover", str(partial), "--out", str(tmp_path / "elsewhere")]) == 0  # nothing was deleted


def test_ctrl_c_keeps_what_was_recorded_and_a_second_rollout_does_not_mind(tmp_path):
    out = tmp_path / "out"
    for name in ("out.partial", "out.partial-2"):
        with rollout(out, "--robot", "tests.toy_world") as process:
            wait_until(lambda name=name: (tmp_path / name / "recording" / "episodes" / "000002.arrow").exists())
            os.killpg(process.pid, signal.SIGINT)
            assert process.stderr is not None
            assert process.stderr.read().strip().endswith("interrupted")
            assert process.wait(TIMEOUT_S) == 130
        assert len(recording(tmp_path / name).episodes) >= 3
        assert not (tmp_path / name / "recording" / "episodes").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"out.partial", "out.partial-2"}


def test_when_a_worker_is_killed_another_takes_its_place_and_every_row_is_kept(tmp_path):
    out = tmp_path / "out"
    with rollout(out, "--robot", "tests.toy_world", "--workers", "2") as process:
        wait_until(lambda: (tmp_path / "out.partial" / "recording" / "episodes" / "000005.arrow").exists())
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        worker = next(c for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text())
        os.kill(int(worker), signal.SIGKILL)
        episodes = [tmp_path / "out.partial" / "recording" / "episodes" / f"{i:06d}.arrow" for i in range(25)]
        wait_until(lambda: all(episode.exists() for episode in episodes))  # that of the killed worker too
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert "will be run again: a worker died without a word" in process.stderr.read()
    reader = DatasetReader(tmp_path / "out.partial" / "recording")
    assert_replays(reader, ToyRobot(16, -1))
    assert {1_000_000 + i for i in range(25)} <= {e.seed for e in reader.episodes}
    assert len(reader.collection.get("interrupted", ())) <= 2  # none, if both were between two episodes


def limited(kilobytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where no file may grow beyond so many kilobytes, which is what a full disk looks like."""
    command = f"ulimit -f {kilobytes}; exec {' '.join(EMBODIED)} {' '.join(arguments)}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=TIMEOUT_S)


def test_a_disk_that_is_full_while_recording_keeps_every_row_that_fitted(tmp_path):
    # An episode takes 55 KiB as it is recorded, the list of episodes 47.
    ran = limited(51, *TOY, "--episodes", "3", "--record", "3", "--videos", "0", "--out", str(tmp_path / "out"))
    assert ran.returncode == 2 and "cannot be written" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr and "out.partial" in ran.stderr
    reader = DatasetReader(tmp_path / "out.partial" / "recording")
    assert_replays(reader, ToyRobot(16, -1))
    assert 5 < len(reader) < 30 and reader.collection["interrupted"][0]["frames"] == len(reader)


def test_a_disk_too_full_for_the_dataset_keeps_the_rows_for_recover(tmp_path, capfd):
    ran = limited(120, *TOY, "--episodes", "20", "--record", "20", "--videos", "0", "--out", str(tmp_path / "out"))
    assert ran.returncode == 2 and "Traceback" not in ran.stderr
    command = re.search(r"embodied (recover \S+ --out) DIR makes a dataset of it", ran.stderr)
    assert command is not None and not (tmp_path / "out").exists()
    assert main([*command[1].split(), str(tmp_path / "dataset")]) == 0  # on a disk with room
    reader = DatasetReader(tmp_path / "dataset")
    assert_replays(reader, ToyRobot(16, -1))
    assert len(reader) == 20 * 30 and "interrupted" not in reader.collection


def test_a_disk_too_full_for_the_report_loses_no_episode_and_resume_writes_it(tmp_path, capfd):
    # The plot takes 50 KiB, and is written after the delays' reports; the journal takes 4.
    out, delays = tmp_path / "out", ["--delay-ms", "0,100", "--episodes", "2", "--max-steps", "3", "--videos", "0"]
    ran = limited(20, *TOY, *delays, "--out", str(out))
    assert ran.returncode == 2 and "kept in" in ran.stderr and "8 finished episodes" in ran.stderr, ran.stderr
    assert (tmp_path / "out.partial" / "delays").exists() and not out.exists()
    assert main([*TOY, *delays, "--resume", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["run"]["episodes_from_before"] == 8 and len(report["delays"]) == 4
    assert not (out / "journal.jsonl").exists() and not (tmp_path / "out.partial").exists()


def test_finished_episodes_and_their_videos_survive_a_robot_that_breaks(tmp_path, capfd):
    broken = ["--option", "bad_seed=1000002", "--episodes", "5", "--videos", "5", "--record", "5"]
    with pytest.raises(RuntimeError, match="the scene exploded"):
        main([*TOY, *broken, "--out", str(tmp_path / "out")])
    assert "kept in " in capfd.readouterr().err
    partial = tmp_path / "out.partial"
    videos = sorted((partial / "videos").iterdir())
    assert [path.name for path in videos] == ["push_1000000.mp4", "push_1000001.mp4"]
    assert all(len([*read_video(path)]) > 30 for path in videos)
    assert len(recording(partial).episodes) == 2
    assert not (partial / "report.json").exists()  # half a rollout is no evidence


def test_a_rollout_that_fails_before_its_first_step_leaves_nothing(tmp_path, capfd):
    broken = ["--option", "bad_seed=1000000", "--episodes", "2", "--videos", "2", "--record", "2"]
    with pytest.raises(RuntimeError, match="the scene exploded"):
        main([*TOY, *broken, "--out", str(tmp_path / "out")])
    assert "kept in" not in capfd.readouterr().err and not [*tmp_path.iterdir()]


def test_recover_refuses_a_folder_that_holds_nothing_to_recover(tmp_path, capfd):
    assert main(["recover", str(tmp_path)]) == 2
    assert "holds no episode of an interrupted rollout" in capfd.readouterr().err


def test_finished_episodes_are_kept_though_nothing_was_recorded(tmp_path):
    command = ["rollout", "--robot", "tests.toy_world", "--policy", "policies.hold", "--task", "all", "--videos", "0"]
    command += ["--episodes", "100000", "--out", str(tmp_path / "out")]
    with subprocess.Popen([*EMBODIED, *command], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        lines = tmp_path / "out.partial" / "episodes.jsonl"
        wait_until(lambda: lines.exists() and lines.read_text().count("\n") >= 3)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None and "finished episodes in episodes.jsonl" in process.stderr.read()
    assert lines.read_text().count("\n") >= 3


def test_what_a_rollout_still_writes_is_not_recovered(tmp_path, capfd):
    partial = tmp_path / "out.partial"
    with rollout(tmp_path / "out", "--robot", "tests.toy_world") as process:
        wait_until(lambda: (partial / "recording" / "episodes" / "000001.arrow").exists())
        for out in ([], ["--out", str(tmp_path / "elsewhere")]):
            assert main(["recover", str(partial), *out]) == 2
            assert f"a rollout is still writing to {partial}" in capfd.readouterr().err
        assert process.poll() is None and not (tmp_path / "elsewhere").exists()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
    assert main(["recover", str(partial)]) == 0


def test_resume_beside_a_rollout_that_runs_touches_nothing_of_it(tmp_path, capfd):
    partial = tmp_path / "out.partial"
    with rollout(tmp_path / "out", "--robot", "tests.toy_world") as process:
        wait_until(lambda: (partial / "recording" / "episodes" / "000001.arrow").exists())
        assert main([*TOY, "--episodes", "2", "--resume", "--out", str(tmp_path / "out")]) == 2
        said = capfd.readouterr().err
        assert f"a rollout is still writing to {partial}" in said and "kept in" not in said
        assert process.poll() is None and (partial / "recording" / "episodes" / "000000.arrow").exists()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
    assert main(["recover", str(partial)]) == 0
    recording(partial)


def test_recover_refuses_what_is_no_folder(tmp_path, capfd):
    assert main(["recover", str(tmp_path / "nothing.partial")]) == 2
    assert "is no folder that a rollout left" in capfd.readouterr().err


def test_when_the_parent_alone_is_killed_its_worker_lets_go_of_the_robot(tmp_path):
    with host(tmp_path, "--realtime") as live:
        arguments = ["--robot", live.address, "--policy", "policies.hold", "--task", "sweep", "--episodes", "1"]
        arguments += ["--max-steps", "1000000", "--videos", "0", "--out", str(tmp_path / "out")]
        command = [*EMBODIED, "rollout", *arguments]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                wait_until(lambda: bool(status(live.address).holder))
                process.kill()
                process.wait(TIMEOUT_S)
                wait_until(lambda: not status(live.address).holder)  # the episode would go on for a day
                wait_until(lambda: not [*processes_of(process.pid)])
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert live.lives and not status(live.address).stalls


def processes_of(group: int) -> Iterator[int]:
    """Yield the processes of a group (proc(5)) that have not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(its_group) == group and state != "Z":
                yield int(stat.parent.name)


def test_a_dataset_is_not_recovered_into_a_folder_that_holds_something(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "key.pem").touch()
    assert main(["recover", str(tmp_path), "--out", str(tmp_path / "mine")]) == 2
    assert "mine is there already" in capsys.readouterr().err

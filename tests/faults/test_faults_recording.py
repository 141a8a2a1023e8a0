"""kill -9 while an operator records, and while that is joined: nothing finished is lost, and nothing counts twice."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from embodied.cli import main
from embodied.recording.operated import OperatedCollection, fixed_by
from embodied.recording.reader import DatasetReader
from embodied.recording.rollout import RolloutRecorder
from embodied.recording.spool import Spool
from embodied.types import PoseAction
from tests.faults.processes import ROOT
from tests.faults.trials import Table
from tests.operator_at import DOWN, LEFT, RIGHT, OperatorAt, operator_at
from tests.test_spool import assert_replays
from tests.toy_world import ToyRobot, make

TOY = ("--robot", "tests.toy_world", "--option", "size=16", "--task", "reach", "--episodes", "9999", "--reset-s", "0")
KEYS = (RIGHT, RIGHT, DOWN, LEFT, "d")
STARTS_S = 60.0
RUNS_S = 2.0  # within which a session is killed once it has begun an episode
JOINED = 6  # episodes
TIMEOUT_S = 120.0


def collect(out: Path, *extra: str) -> list[str]:
    return ["collect", "--teleop", "keyboard", *TOY, "--out", str(out), *extra]


def drive_until(operator: OperatorAt, deadline_s: float, rng: Generator) -> None:
    """Drive a little in each episode, then end it in some way, until the time has come."""
    while time.monotonic() < deadline_s:
        with contextlib.suppress(AssertionError):
            operator.sees(" s · ", timeout_s=max(0.0, min(0.1, deadline_s - time.monotonic())))
            operator.type("x" if rng.random() < 0.3 else str(rng.choice(KEYS)))


def announced(shown: str) -> set[int]:
    """Return the seeds that were said to be kept."""
    return {
        int(part[: part.index(";")]) for part in re.split(r"reach \d+/9999, seed ", shown)[1:] if "kept as a " in part
    }


def kept(out: Path) -> dict[int, bool]:
    """Return the seeds on the disk whose episodes have ended, with how; each must load whole."""
    spools = [Spool(path) for path in (out / "staging" / "episodes").glob("*.arrow")]
    assert all(spool.rows and spool.success is not None for spool in spools)
    return {spool.head.seed: spool.success for spool in spools if spool.head and spool.success is not None}


def survive(out: Path, kills: int, rng: Generator) -> int:
    """Kill a session kills times at random moments, going on each time; return how many episodes there are then."""
    known: dict[int, bool] = {}
    for _ in range(kills):
        with operator_at(*collect(out, *(["--resume"] if (out / "staging/plan.json").exists() else []))) as operator:
            if rng.random() < 0.9:  # else while it starts
                operator.sees("go: ", timeout_s=STARTS_S)
            drive_until(operator, time.monotonic() + RUNS_S * rng.random(), rng)
            operator.signal(signal.SIGKILL)
            assert operator.ends() == -signal.SIGKILL
            found, said = kept(out), announced(operator.shown)
        assert {seed: found.get(seed) for seed in known} == known  # what was there is there, as it was
        new = found.keys() - known.keys()
        assert said <= new and len(new - said) <= 1  # one may be on the disk that was not announced any more
        known = found
    return len(known)


def check(out: Path, rng: Generator, kills: int) -> int:
    episodes = survive(out, kills, rng)
    before = kept(out)
    assert main(collect(out, "--finish")) == 0
    reader = DatasetReader(out)
    seeds = [episode.seed for episode in reader.episodes]
    assert seeds == sorted(before) and len(seeds) == episodes
    assert {episode.seed: episode.success for episode in reader.episodes} == before
    assert_replays(reader, ToyRobot(16, -1))
    return episodes


def test_a_session_killed_at_random_moments_keeps_what_was_finished(tmp_path: Path, table: Table) -> None:
    table.add(
        "kill -9 while recording", "episodes kept over 3 kills", [check(tmp_path / "d", np.random.default_rng(3), 3)]
    )


@pytest.mark.slow
def test_fifty_kills_while_recording(tmp_path: Path, table: Table) -> None:
    episodes = check(tmp_path / "d", np.random.default_rng(50), 50)
    assert episodes > 10
    table.add("kill -9 while recording", "episodes kept over 50 kills", [episodes])


# -- joining


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return a folder with finished episodes that are not joined yet."""
    out, robot = tmp_path / "recorded", make()
    collection = OperatedCollection(out, fixed_by(robot.spec, 0))
    for _ in range(JOINED):
        slot = collection.next("reach")
        with RolloutRecorder(slot.path, robot.spec, task="reach", seed=slot.seed) as recorder:
            recorder.began(robot.reset(slot.seed, "reach"))
            for _ in range(12):
                action = PoseAction(np.array([0.3, 0.2], np.float32))
                recorder.stepped(action, robot.step(action))
            recorder.ended(slot.seed % 2 == 0)
    collection.close()
    return out


def joins(folders: list[str], delays_s: list[float]) -> None:
    """Join each folder in a process that is killed after its delay; say how many were killed. No delay: not at all."""
    killed = 0
    for folder, delay_s in zip(folders, delays_s, strict=True):
        began_s = time.monotonic()
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os._exit(main(collect(Path(folder), "--finish")))
        if delay_s:
            time.sleep(delay_s)
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        killed += status != 0
        took_s = time.monotonic() - began_s
    print(killed, took_s)


def run_joins(folders: list[Path], delays_s: list[float]) -> tuple[int, float]:
    """Run joins in a process of its own: this one may have threads of other tests. Return its figures."""
    program = f"from tests.faults.test_faults_recording import joins; joins({[str(f) for f in folders]}, {delays_s})"
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=TIMEOUT_S, cwd=ROOT, capture_output=True, text=True
    )
    killed, took_s = ran.stdout.split()
    return int(killed), float(took_s)


def bytes_of(dataset: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((dataset / "data").rglob("*.parquet"))]


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_a_joining_killed_at_random_moments_is_done_again_to_the_same_dataset(
    recorded: Path, tmp_path: Path, table: Table, kills: int
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(recorded, whole)
    _, took_s = run_joins([whole], [0.0])
    trials = [tmp_path / f"{i}" for i in range(kills)]
    for trial in trials:
        shutil.copytree(recorded, trial)
    delays_s = np.random.default_rng(kills).uniform(1e-3, took_s, kills).tolist()
    killed, _ = run_joins(trials, delays_s)
    assert killed >= kills // 4
    for trial in trials:
        if (trial / "staging").exists():  # else it was quicker than the kill
            assert main(collect(trial, "--finish")) == 0
        assert not (trial / "staging").exists()
        assert bytes_of(trial) == bytes_of(whole)
        assert [e.seed for e in DatasetReader(trial).episodes] == list(range(JOINED))
    table.add("kill -9 while joining", f"killed of {kills}", [killed])

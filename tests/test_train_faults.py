"""A run that is killed, or runs out of disk or memory, loses nothing that it had saved."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from embodied.cli import main
from policies.checkpoint import WEIGHTS, load_checkpoint
from policies.training.folder import STATE
from policies.training.saving import FILE, newest
from tests.training_data import Limit, Material, finish, losses_of, start_training

STEPS = 12
EVERY = ("--steps", str(STEPS), "--save-every", "2")
KILLS = 3
# Of memory, beyond what a process has before it trains: half of what the batch takes, and so much that it is a tensor
# that does not fit; where it is a few bytes of a thread or a C++ library, the process ends without a word.
ROOM_BYTES, BIG_BATCH = 128 << 20, ("--batch", "1024")


@pytest.fixture(scope="module")
def whole(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without interruption, in a process of its own as the killed run is."""
    folder = tmp_path_factory.mktemp("whole")
    out = folder / "run"
    assert finish(start_training(material.arguments(out, *EVERY), folder / "log")) == 0
    return out


def kill_after_a_save(arguments: list[str], out: Path, delay_s: float) -> None:
    """Begin or resume a run, and kill it that long after its next state stands; a run that ends first is left alone."""
    before = newest(out / STATE)
    process = start_training(arguments, out.parent / "log")
    while process.is_alive() and newest(out / STATE) == before:
        time.sleep(0.005)
    time.sleep(delay_s)
    process.kill()  # SIGKILL
    process.join()


def test_a_run_killed_at_random_moments_ends_as_the_uninterrupted_one_bit_for_bit(
    material: Material, whole: Path, tmp_path: Path
) -> None:
    out, random = tmp_path / "run", np.random.default_rng()
    for kill in range(KILLS):
        resume = ("--resume",) if kill else ()
        kill_after_a_save(material.arguments(out, *EVERY, *resume), out, float(random.uniform(0.0, 0.15)))
        assert load_checkpoint(out)  # usable at any moment
    assert finish(start_training(material.arguments(out, *EVERY, "--resume"), tmp_path / "log")) == 0
    assert losses_of(out) == losses_of(whole)
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    ends = [newest(folder / STATE) for folder in (out, whole)]
    assert all(ends) and len({(end / FILE).read_bytes() for end in ends if end}) == 1
    assert not list((out / STATE).glob("*.partial"))


def refused(arguments: list[str], log: Path, limit: Limit | None = None) -> str:
    """Run a command line that must fail, with no more than limit of something, and return the last line it said."""
    assert finish(start_training(arguments, log, limit=limit)) == 2, log.read_text()
    assert "Traceback" not in log.read_text()
    return log.read_text().strip().splitlines()[-1]


@pytest.fixture
def begun(material: Material, tmp_path: Path) -> Path:
    """Train to step 2."""
    out = tmp_path / "run"
    assert main(material.arguments(out, "--steps", "2")) == 0
    return out


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_last_one(
    material: Material, begun: Path, tmp_path: Path
) -> None:
    state = newest(begun / STATE)
    assert state is not None
    before = (state / FILE).read_bytes()
    room = len(before) // 2  # a file may not be longer: a policy fits, a state does not
    assert (begun / WEIGHTS).stat().st_size < room
    arguments = material.arguments(begun, "--steps", "4", "--resume")
    line = refused(arguments, tmp_path / "log", (resource.RLIMIT_FSIZE, room))
    assert "cannot write the checkpoint of step 4" in line and "that of step 2 is intact" in line
    assert newest(begun / STATE) == state and (state / FILE).read_bytes() == before
    assert [path.name for path in (begun / STATE).iterdir()] == ["00000002"]
    assert main(arguments) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_is_really_full_is_named(material: Material, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        arguments = material.arguments(disk / "run", "--steps", "8", "--save-every", "1", "--keep", "9")
        line = refused(arguments, tmp_path / "log")
        assert "No space left on device" in line and "is intact" in line
        assert load_checkpoint(disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_machine_without_enough_memory_is_told_what_helps(material: Material, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(material.arguments(out, "--steps", "1", *BIG_BATCH)) == 0
    arguments = material.arguments(out, "--steps", "4", *BIG_BATCH, "--resume")
    line = refused(arguments, tmp_path / "log", (resource.RLIMIT_AS, ROOM_BYTES))
    assert "out of memory" in line and "--accumulate 2" in line and "step 1 is intact" in line

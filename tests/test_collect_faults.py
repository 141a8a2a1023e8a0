"""A collection loses nothing to what befalls it: a power cut, a driver that goes away, a worker that dies."""

import multiprocessing
import os
import sys
import threading
import time

import pytest
import toy_world

from embodied.bridge.policy_server import serve_policy
from embodied.cli import main
from embodied.modules import policy_origin
from embodied.recording import format as layout
from embodied.recording.collection import SEEDS_PER_PART, Collection
from embodied.recording.operated import OperatedCollection, fixed_by
from embodied.recording.plan import Plan
from embodied.recording.rollout import RolloutRecorder
from embodied.recording.workers import probe, record
from policies.hold import HoldPolicy


def expert_collection(path):
    found = probe("toy_world", {"size": 16}, ("reach",), 0)
    collection = Collection(path, Plan("toy_world", {"size": 16}, ("reach",), 3, 0, 0.5), found)
    collection.run(1)
    return collection


def operated_collection(path):
    robot = toy_world.make()
    expert = toy_world.expert(robot)
    collection = OperatedCollection(path, fixed_by(robot.spec, 0))
    slot = collection.next("reach")
    with RolloutRecorder(slot.path, robot.spec, task=slot.task, seed=slot.seed) as recorder:
        observation = robot.reset(slot.seed, slot.task)
        recorder.began(observation)
        for _ in range(5):
            (action,) = expert.act(observation)
            recorder.stepped(action, robot.step(action))
        recorder.ended(True)
    return collection


@pytest.mark.parametrize("begin", [expert_collection, operated_collection])
@pytest.mark.parametrize("video", [None, "h264"])
def test_a_dataset_is_on_the_disk_before_what_it_was_joined_from_is_removed(tmp_path, monkeypatch, begin, video):
    out, to_disk = tmp_path / "d", os.fsync
    collection = begin(out)
    before_info, before_clearing = set(), set()

    def noted(descriptor):
        to_disk(descriptor)
        if (out / "staging").exists():
            before_clearing.add(os.fstat(descriptor).st_ino)
            if not (out / layout.INFO).exists():
                before_info.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    collection.assemble({}, video=video)
    everything = {path: path.stat().st_ino for path in [tmp_path, out, *out.rglob("*")]}
    assert not (out / "staging").exists() and any(path.suffix == ".mp4" for path in everything) == bool(video)
    assert not {path for path, inode in everything.items() if inode not in before_clearing}
    assert not {path for path, inode in everything.items() if inode not in before_info}


def collect(out, *extra):
    required = ["--robot", "toy_world", "--option", "size=16", "--task", "reach", "--episodes", "30", "--out", str(out)]
    return main(["collect", *required, "--workers", "1", *extra])


class LeavingPolicy(HoldPolicy):
    """Has its server stopped as the second part of the collection begins."""

    begun = 0

    def __init__(self, leave, gone):
        super().__init__()
        self.leave, self.gone = leave, gone

    def reset(self, instruction, spec):
        super().reset(instruction, spec)
        self.begun += 1
        if self.begun == SEEDS_PER_PART + 1:
            threading.Thread(target=self.leave, daemon=True).start()
            self.gone.wait(60.0)


def test_a_driver_that_goes_away_stops_the_collection_and_blames_no_seed(tmp_path, capfd):
    origin, gone = policy_origin("policies.hold", None, {}), threading.Event()
    with serve_policy(lambda: LeavingPolicy(lambda: server.stop(), gone), origin=lambda: origin) as server:
        assert collect(tmp_path / "d", "--driver", server.address) == 2
        gone.set()
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: the driver was lost: policy server at {server.address}")
    assert "the same command with --resume goes on" in error
    outcomes = [layout.read_json(path) for path in (tmp_path / "d/staging").glob("*/outcome.json")]
    assert [outcome["kept"] + len(outcome["failed"]) for outcome in outcomes] == [SEEDS_PER_PART]
    assert collect(tmp_path / "d", "--driver", "policies.hold", "--resume") == 0
    assert collect(tmp_path / "whole", "--driver", "policies.hold") == 0
    data = "data/chunk-000/file-000.parquet"
    assert (tmp_path / "d" / data).read_bytes() == (tmp_path / "whole" / data).read_bytes()


def kill_the_first_worker():
    """Kill a worker as soon as there is one, as a system does that is out of memory."""
    while not (found := multiprocessing.active_children()):
        time.sleep(0.001)
    found[0].kill()


def test_a_worker_that_dies_is_told_in_one_line_and_the_collection_goes_on(tmp_path, capfd):
    killer = threading.Thread(target=kill_the_first_worker)
    killer.start()
    assert collect(tmp_path / "d") == 2
    killer.join()
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith(
        "error: a worker died without a word; was it out of memory? fewer --workers"
    )
    assert "the same command with --resume goes on" in error
    assert collect(tmp_path / "d", "--resume") == 0


FUSSY = """
import multiprocessing
import toy_world
from toy_world import expert

class NoScreenError(REASON):
    def __init__(self, screen, number):
        super().__init__(f"no {screen} {number}")

def make(size: int = 16):
    if multiprocessing.parent_process() is not None:
        raise NoScreenError("screen", 7)
    return toy_world.make(size)
"""


@pytest.mark.parametrize("kind", ["__import__('embodied.errors').errors.EmbodiedError", "OSError"])
def test_a_worker_that_cannot_begin_says_why(tmp_path, monkeypatch, capfd, kind):
    (tmp_path / "fussy_world.py").write_text(FUSSY.replace("REASON", kind))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fussy_world", raising=False)
    arguments = ["--robot", "fussy_world", "--task", "reach", "--episodes", "3", "--workers", "1"]
    assert main(["collect", *arguments, "--out", str(tmp_path / "d")]) == 2
    error = capfd.readouterr().err
    assert "error: a worker cannot begin: no screen 7; what is finished" in error and "Traceback" not in error


def test_a_bug_in_a_workers_beginning_stays_a_traceback(tmp_path, monkeypatch):
    (tmp_path / "fussy_world.py").write_text(FUSSY.replace("REASON", "RuntimeError"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fussy_world", raising=False)
    found = probe("fussy_world", {}, ("reach",), 0)
    with pytest.raises(RuntimeError, match=r"(?s)in a worker:.*fussy_world.py.*no screen 7"):
        list(record(Plan("fussy_world", {}, ("reach",), 3, 0, 0.5), found.label_sizes, [("reach", 0)], 1))

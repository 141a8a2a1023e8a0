"""A collection loses nothing to what befalls it: a power cut, a driver that goes away, a worker that dies."""

import os

import pytest
import toy_world

from embodied.recording import format as layout
from embodied.recording.collection import Collection
from embodied.recording.operated import OperatedCollection, fixed_by
from embodied.recording.plan import Plan
from embodied.recording.rollout import RolloutRecorder
from embodied.recording.workers import probe


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

"""Collecting records the expert's clean answers, drops failures by name, and goes on where it was stopped."""

import json
import sys
from dataclasses import replace
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import toy_world

from embodied.bridge.policy_server import serve_policy
from embodied.cli import main
from embodied.modules import policy_origin
from embodied.recording.collection import Collection
from embodied.recording.demonstration import Bursts, Disturbance, demonstrate
from embodied.recording.format import DatasetError
from embodied.recording.plan import Drive, Plan
from embodied.recording.reader import DatasetReader
from embodied.recording.workers import probe
from embodied.safety import SafeRobot
from embodied.types import PoseAction
from policies.hold import HoldPolicy


def collect(out, *extra, episodes=12):
    required = ["--robot", "toy_world", "--episodes", str(episodes), "--out", str(out), "--option", "size=16"]
    return main(["collect", *required, *extra])


def bytes_of(dataset):
    return {p.name: p.read_bytes() for p in sorted((dataset / "data").rglob("*.parquet"))}


def recorded(perturb, seed=3):
    robot = toy_world.make()
    return demonstrate(robot, toy_world.expert(robot), task="reach", seed=seed, perturb=perturb)


def test_rows_hold_the_experts_clean_answer_whatever_was_executed():
    episode = recorded(perturb=1.0)
    assert episode.perturbed.any()
    assert not episode.perturbed.all()
    assert (episode.action == episode.action[0]).all()


def test_a_driver_acts_until_the_expert_takes_over_and_the_experts_answers_are_recorded():
    robot = toy_world.make()
    episode = demonstrate(robot, toy_world.expert(robot), task="reach", seed=3, driver=HoldPolicy())
    takeover = int(np.argmin(episode.perturbed))
    assert 5 <= takeover < len(episode)
    assert episode.perturbed[:takeover].all() and not episode.perturbed[takeover:].any()
    assert (episode.state[: takeover + 1] == episode.state[0]).all()  # it held
    assert (episode.action == episode.action[0]).all() and episode.succeeded


def test_a_driver_is_named_in_the_collection_and_a_bad_one_is_refused_at_once(tmp_path, capsys):
    assert collect(tmp_path / "a", "--driver", "policies.hold", "--seed", "8", episodes=4) == 0
    content = json.loads((tmp_path / "a" / "meta" / "collection.json").read_text())
    driver = {"module": "policies.hold", "options": {}, "checkpoint_sha256": None, "within": 60}
    assert content["driver"] == driver
    assert collect(tmp_path / "b", "--driver", "policies.hald") == 2
    assert "policies.hold" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_driver_is_told_by_what_it_was_made_from_wherever_it_runs(tmp_path):
    drive = ("--driver-steps", "7", "--seed", "8")
    origin = policy_origin("policies.hold", None, {})
    with serve_policy(HoldPolicy, origin=lambda: origin) as server:
        assert collect(tmp_path / "a", "--driver", server.address, *drive, episodes=4) == 0
    environment = ("--driver-env", sys.prefix)
    assert collect(tmp_path / "b", "--driver", "policies.hold", *environment, *drive, episodes=4) == 0
    assert collect(tmp_path / "c", "--driver", "policies.hold", *drive, episodes=4) == 0
    remote, other, local = (json.loads((tmp_path / name / "meta" / "collection.json").read_text()) for name in "abc")
    assert remote["driver"] == other["driver"] == local["driver"]
    assert local["driver"]["module"] == "policies.hold" and local["driver"]["within"] == 7
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") == bytes_of(tmp_path / "c")
    perturbed = DatasetReader(tmp_path / "a").perturbed
    assert 5 <= perturbed.sum() / 8 <= 7


class Looker(HoldPolicy):
    """Says three poses at a look, by what it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def act(self, observation):
        self.seen.append(int(observation.frames["front"][0, 0, 1]))
        return [PoseAction(np.full(2, 0.01 * self.seen[-1] + 0.001 * i, np.float32)) for i in range(3)]


@pytest.mark.parametrize("rehearse", [False, True])
def test_a_driver_looks_once_at_a_chunk_however_often_an_episode_is_played(rehearse):
    robot, looker = toy_world.make(), Looker()
    episode = demonstrate(
        robot, toy_world.expert(robot), task="reach", seed=3, perturb=1.0, driver=looker, within=14, rehearse=rehearse
    )
    takeover = next(step for step in range(15) if not episode.perturbed[step : step + 3].any())
    assert looker.seen == [*range(0, takeover, 3)] and len(looker.seen) > 1
    assert episode.succeeded and {len(frames) for frames in episode.frames.values()} == {len(episode)}
    plain = demonstrate(robot, toy_world.expert(robot), task="reach", seed=3, perturb=1.0, driver=Looker(), within=14)
    assert np.array_equal(plain.state, episode.state) and np.array_equal(plain.action, episode.action)


def test_a_rehearsed_failure_is_played_once_and_drawn_where_a_driver_looks():
    robot, looker = toy_world.make(), Looker()
    episode = demonstrate(robot, toy_world.expert(robot), task="reach", seed=7, driver=looker, rehearse=True)
    assert not episode.succeeded and len(looker.seen) == len(set(looker.seen)) > 1


def test_an_undisturbed_episode_has_no_perturbed_rows():
    assert not recorded(perturb=0.0).perturbed.any()


def test_bursts_are_as_many_and_as_long_as_asked_for():
    spec, middle = toy_world.make().spec, np.array([0.0, 0.7], np.float32)
    counts, lengths = set(), set()
    for seed in range(200):
        disturbance = Disturbance(spec, np.random.default_rng(seed), Bursts(most=5, steps=12))
        moved = [not np.array_equal(disturbance.apply(step, middle), middle) for step in range(200)]
        edges = np.flatnonzero(np.diff([False, *moved, False]))
        counts.add(len(edges) // 2)
        lengths.update((edges[1::2] - edges[::2]).tolist())
    assert counts == set(range(1, 6)) and lengths == set(range(2, 13))


def test_a_disturbed_episode_takes_another_path():
    disturbed, clean = recorded(perturb=1.0), recorded(perturb=0.0)
    assert not np.array_equal(disturbed.state, clean.state)


def test_the_same_seed_gives_the_same_demonstration():
    first, second = recorded(perturb=1.0), recorded(perturb=1.0)
    assert np.array_equal(first.state, second.state)
    assert np.array_equal(first.perturbed, second.perturbed)
    assert first.frames == second.frames


def test_disturbances_come_in_short_bursts_within_the_fields_ranges():
    spec = toy_world.make().spec
    middle, edge = np.array([0.0, 0.7], np.float32), np.array([2.0, 0.0], np.float32)
    for seed in range(50):
        disturbance = Disturbance(spec, np.random.default_rng(seed))
        moved = [not np.array_equal(disturbance.apply(step, middle), middle) for step in range(80)]
        assert 2 <= sum(moved) <= 18
        executed = np.stack([disturbance.apply(step, edge) for step in range(80)])
        assert ((executed >= [-2.0, 0.0]) & (executed <= [2.0, 1.5])).all()


def test_a_field_in_delta_mode_is_disturbed_by_a_quarter_of_its_range_and_others_as_ever():
    spec = toy_world.make().spec
    moved = replace(spec, action=(replace(spec.action[0], mode="delta"), spec.action[1]))
    offsets = [[], []]
    for seed in range(300):
        for found, of in zip(offsets, (spec, moved), strict=True):
            disturbance = Disturbance(of, np.random.default_rng(seed))
            found += list(disturbance._offsets.values())
    assert (np.array(offsets[0])[:, 1] == np.array(offsets[1])[:, 1]).all()
    assert np.array(offsets[0])[:, 0].std() == pytest.approx(0.02 * 4.0, rel=0.15)
    assert np.array(offsets[1])[:, 0].std() == pytest.approx(0.25 * 4.0, rel=0.15)


def test_a_robot_that_knows_its_labels_is_probed_in_one_task():
    class Knowing(toy_world.ToyRobot):
        label_sizes: ClassVar = {"target_position": 3, "of_push_alone": 2}
        begun: ClassVar = []

        def reset(self, seed, task):
            self.begun.append(task)
            return super().reset(seed, task)

    sizes = Knowing.label_sizes
    world = ModuleType("knowing_world")
    world.make, world.expert = lambda: SafeRobot(Knowing(16, -1)), toy_world.ToyExpert
    sys.modules["knowing_world"] = world
    assert probe("knowing_world", {}, (), 0).label_sizes == sizes
    assert Knowing.begun == ["reach"]
    del sys.modules["knowing_world"]


def test_a_sentence_describes_the_next_half_second_unless_it_is_disturbed():
    episode = recorded(perturb=1.0)
    assert episode.text[0] == "up"
    assert episode.text[-1] == "wait"
    disturbed = np.flatnonzero(episode.perturbed)
    assert all(episode.text[row] == "" for row in disturbed)
    assert episode.text[disturbed[0] - 4] == ""


def test_labels_are_those_of_the_observation_not_of_what_followed():
    robot = toy_world.make()
    episode = demonstrate(
        robot, toy_world.expert(robot), task="push", seed=1, label_sizes={"target_position": 3, "other": 2}
    )
    assert np.array_equal(episode.labels["target_position"][:, 2], np.arange(len(episode)))
    assert np.isnan(episode.labels["other"]).all()


def test_the_dataset_is_the_same_at_any_number_of_workers(tmp_path, capsys):
    assert collect(tmp_path / "one", "--workers", "1") == 0
    assert collect(tmp_path / "two", "--workers", "2") == 0
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert "rows/s" in capsys.readouterr().out
    reader = DatasetReader(tmp_path / "one")
    order = [(e.task, e.seed) for e in reader.episodes]
    assert order == [(task, seed) for task in ("reach", "push") for seed in range(12) if seed != 7]
    assert reader.spec == toy_world.make().spec
    assert reader.success[reader.done].all()
    assert not (tmp_path / "one/staging").exists()


def test_a_rehearsed_collection_is_the_same_dataset(tmp_path):
    assert collect(tmp_path / "a") == 0 and collect(tmp_path / "b", "--rehearse") == 0
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    tallies = [json.loads((tmp_path / name / "meta/collection.json").read_text())["tasks"] for name in "ab"]
    assert tallies[0] == tallies[1]


def test_scenes_are_labelled_pictures_in_which_nothing_is_answered_and_each_is_another(tmp_path, capsys):
    assert collect(tmp_path / "a", "--scenes", "3", "--workers", "2", episodes=4) == 0
    assert "reach: 4 of 4 episodes kept" in capsys.readouterr().out
    read = DatasetReader(tmp_path / "a")
    assert read.scene.all() and not read.success.any() and read.collection["scenes"] == 3
    assert np.isfinite(read.labels["target_position"]).all()
    assert max(e.stop - e.start for e in read.episodes) == 3
    assert len(np.unique(read.state, axis=0)) > len(read) / 2
    assert collect(tmp_path / "b", "--scenes", "3", "--workers", "1", episodes=4) == 0
    assert bytes_of(tmp_path / "b") == bytes_of(tmp_path / "a")
    assert not recorded(perturb=1.0).scene.any()


def test_failed_episodes_are_dropped_and_reported(tmp_path, capsys):
    assert collect(tmp_path / "d", "--task", "push", "--option", "bad_seed=2", "--workers", "1") == 0
    tally = json.loads((tmp_path / "d/meta/collection.json").read_text())["tasks"]["push"]
    assert (tally["attempted"], tally["kept"]) == (12, 10)
    assert [f["seed"] for f in tally["failed"]] == [2, 7]
    assert "seed 2 dropped: RuntimeError: the scene exploded" in capsys.readouterr().out


def test_as_many_successes_as_are_wanted_are_kept_and_little_more_is_recorded(tmp_path, capsys):
    assert collect(tmp_path, "--keep", "7", "--option", "bad_seed=2", episodes=30) == 0
    tasks = json.loads((tmp_path / "meta" / "collection.json").read_text())["tasks"]
    assert {task: tally["kept"] for task, tally in tasks.items()} == {"reach": 7, "push": 7}
    assert tasks["reach"]["attempted"] == 7  # the seeds below 7 all succeed, but for one that explodes in push
    assert tasks["push"]["attempted"] == 12
    seeds = {(e.task, e.seed) for e in DatasetReader(tmp_path).episodes}
    assert seeds == {("reach", s) for s in range(7)} | {("push", s) for s in (0, 1, 3, 4, 5, 6, 8)}


def test_a_stopped_collection_is_refused_then_resumed_to_the_same_dataset(tmp_path, capsys):
    options = {"size": 16}
    found = probe("toy_world", options, (), 0)
    plan = Plan("toy_world", options, found.spec.tasks, 30, 0, 0.5)
    collection = Collection(tmp_path / "stopped", plan, found)
    collection.run(1)
    collection.parts[1].outcome.unlink()  # as if killed while it was being written
    collection.close()

    assert collect(tmp_path / "stopped", episodes=30) == 2
    assert "--resume" in capsys.readouterr().err
    assert collect(tmp_path / "stopped", "--resume", "--perturb", "0", episodes=30) == 2
    assert "perturb: began with 0.5, now 0.0" in capsys.readouterr().err
    assert collect(tmp_path / "stopped", "--resume", episodes=30) == 0
    assert collect(tmp_path / "whole", episodes=30) == 0
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "whole")


def test_finish_makes_a_dataset_of_what_is_there(tmp_path):
    found = probe("toy_world", {"size": 16}, (), 0)
    plan = Plan("toy_world", {"size": 16}, found.spec.tasks, 30, 0, 0.5)
    collection = Collection(tmp_path / "d", plan, found)
    collection.run(1)
    collection.parts[-1].outcome.unlink()
    collection.close()
    assert collect(tmp_path / "d", "--finish", episodes=30) == 0
    assert [e.task for e in DatasetReader(tmp_path / "d").episodes].count("push") == 23


def test_a_driven_collection_goes_on_with_its_driver_alone_and_is_finished_without(tmp_path, capsys):
    found = probe("toy_world", {"size": 16}, (), 0)
    origin = policy_origin("policies.hold", None, {})
    drive = Drive("policies.hold", None, {}, 60, origin)
    collection = Collection(
        tmp_path / "d", Plan("toy_world", {"size": 16}, found.spec.tasks, 4, 0, 0.5, drive=drive), found
    )
    collection.run(1)
    collection.close()
    assert collect(tmp_path / "d", "--resume", episodes=4) == 2
    assert "driver: began with {'module': 'policies.hold'" in capsys.readouterr().err
    assert collect(tmp_path / "d", "--finish", "--driver", "localhost:1", episodes=4) == 0
    assert json.loads((tmp_path / "d/meta/collection.json").read_text())["driver"] == drive.fixed()


def test_a_collection_that_is_running_is_left_alone(tmp_path, capsys):
    found = probe("toy_world", {"size": 16}, (), 0)
    running = Collection(tmp_path / "d", Plan("toy_world", {"size": 16}, ("reach",), 3, 0, 0.5), found)
    assert collect(tmp_path / "d", "--resume") == 2
    assert "another process is collecting there" in capsys.readouterr().err
    running.run(1)
    running.assemble({})


def test_a_collection_without_a_single_success_says_why(tmp_path, capsys):
    assert collect(tmp_path / "d", "--task", "reach", "--seed", "7", "--workers", "1", episodes=1) == 2
    assert "not one success in 1 episodes" in capsys.readouterr().err
    with pytest.raises(DatasetError):
        DatasetReader(tmp_path / "d")


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--seed", "999995"], "those above are for evaluation"),
        (["--seed", "-1"], "must not be negative"),
        (["--perturb", "1.5"], "share from 0 to 1"),
        (["--bursts", "0"], "at least 1"),
        (["--burst-steps", "1"], "--burst-steps is at least 2"),
        (["--workers", "0"], "at least 1"),
        (["--scenes", "2", "--keep", "3"], "--keep goes with demonstrations"),
        (["--driver-env", ".venv"], "--driver-env goes with a --driver"),
        (["--driver", "localhost:1", "--driver-env", ".venv"], "--driver-env goes with a --driver that is a policy's"),
        (["--driver", "policies.hold", "--driver-env", ".venv", "--workers", "9"], "has room for 8 sessions"),
        (["--driver", "policies.hold", "--driver-env", "nowhere"], "nowhere is no virtual environment"),
        (["--driver", "policies.hold", "--driver-steps", "4"], "--driver-steps is at least 5, got 4"),
        (["--scenes", "2", "--driver", "policies.hold"], "--driver goes with demonstrations"),
        (["--scenes", "2", "--perturb", "0"], "--perturb goes with demonstrations"),
        (["--scenes", "2", "--bursts", "3"], "--bursts goes with demonstrations"),
        (["--checkpoint", "."], "--checkpoint goes with --driver"),
        (["--policy-option", "rows=1"], "--policy-option goes with --driver"),
        (["--driver-steps", "60"], "--driver-steps goes with --driver"),
        (["--length-s", "60"], "--length-s goes with --teleop"),
        (["--reset-s", "0"], "--reset-s goes with --teleop"),
        (["--takeover"], "--takeover goes with --teleop"),
        (["--teleop", "keyboard", "--perturb", "0.5"], "--perturb goes with an expert"),
        (["--teleop", "keyboard", "--burst-steps", "3"], "--burst-steps goes with an expert"),
        (["--teleop", "keyboard", "--scenes", "3"], "--scenes goes with an expert"),
        (["--teleop", "keyboard", "--workers", "1"], "--workers goes with an expert"),
        (["--keep", "13"], "of 12 episodes no 13 can be kept"),
        (["--task", "juggle"], "no task 'juggle'; toy has ['push', 'reach']"),
        (["--option", "colour=red"], "no option 'colour'"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(tmp_path, capsys, extra, complaint):
    assert collect(tmp_path / "d", *extra) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_an_unknown_robot_is_refused(tmp_path, capsys):
    assert main(["collect", "--robot", "envs.nothing", "--episodes", "1", "--out", str(tmp_path / "d")]) == 2
    assert "no robot module 'envs.nothing'" in capsys.readouterr().err


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("dear reader")
    assert collect(tmp_path) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_frames_become_videos_where_that_is_asked_for(tmp_path, capsys):
    assert collect(tmp_path / "pictures", "--task", "push", "--workers", "1", episodes=3) == 0
    assert collect(tmp_path / "videos", "--task", "push", "--workers", "1", "--video", episodes=3) == 0
    pictures, videos = DatasetReader(tmp_path / "pictures"), DatasetReader(tmp_path / "videos")
    camera = pictures.cameras[0]
    assert videos.info["features"][f"observation.images.{camera}"]["info"]["video.codec"] == "h264"
    assert list((tmp_path / "videos/videos").rglob("*.mp4")) and not list((tmp_path / "videos").rglob("*.partial"))
    assert np.array_equal(pictures.action, videos.action) and pictures.text == videos.text
    rows = range(len(pictures))
    assert np.abs(pictures.frames(camera, rows).astype(int) - videos.frames(camera, rows)).mean() < 6
    assert collect(tmp_path / "none", "--video", "gif") == 2
    assert "invalid choice: 'gif'" in capsys.readouterr().err

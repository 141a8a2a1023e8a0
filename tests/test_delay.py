"""Success against delay: exact in simulated time, the same at any number of workers, readable by the other tools."""

import json
from dataclasses import replace

import numpy as np
import pytest

from embodied.asynchronous import AsyncPolicy
from embodied.cli import main
from embodied.delay import DelayedPolicy, Execution, executing
from embodied.errors import EmbodiedError
from embodied.loop import run_episode
from embodied.types import PoseAction
from tests.dummy_robot import HORIZON, DummyRobot
from tests.test_cli import hosting
from tests.wave_policy import WavePolicy

ROLLOUT = ["rollout", "--robot", "tests.dummy_robot", "--policy", "tests.wave_policy", "--videos", "0"]
ROLLOUT += ["--task", "reach,wait", "--episodes", "3"]
SWEEP = [*ROLLOUT, "--delay-ms", "0,150,400"]


def read(folder) -> dict:
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize(
    ("delay_ms", "control_hz", "steps"),
    [(0, 10, 0), (1, 10, 1), (100, 10, 1), (101, 10, 2), (200, 10, 2), (500, 10, 5), (100, 30, 3), (33, 30, 1)],
)
def test_a_delay_is_rounded_up_to_control_periods(delay_ms, control_hz, steps):
    assert Execution("sync", delay_ms).delay_steps(control_hz) == steps


class Journal(DummyRobot):
    """Remembers the poses it was sent."""

    def reset(self, seed, task):
        self.sent = []
        return super().reset(seed, task)

    def step(self, *actions, frames=True):
        self.sent += [action.values for action in actions]
        return super().step(*actions, frames=frames)


def test_in_mode_sync_the_robot_holds_for_the_delay_before_every_chunk():
    robot, policy = Journal(), WavePolicy(chunk=3)
    start = DummyRobot().reset(4, "wait").state[:3]
    run_episode(robot, DelayedPolicy(policy, 2), task="wait", seed=4)
    sent = np.stack(robot.sent)
    assert len(sent) == HORIZON
    assert np.allclose(sent[:2], start)  # the measured pose before there was any other
    for cycle in range(1, HORIZON // 5):
        assert np.array_equal(sent[5 * cycle : 5 * cycle + 2], sent[[5 * cycle - 1] * 2])  # then the last one commanded
    assert not np.array_equal(sent[2], sent[3])


def test_without_a_delay_sync_is_the_policy_itself():
    policy = WavePolicy()
    with executing(policy, Execution(), DummyRobot().spec) as executed:
        assert executed is policy


def test_a_policy_that_can_hands_out_whole_chunks_for_async():
    class Partial(WavePolicy):
        def whole(self):
            return WavePolicy(chunk=12)

    def longest(mode):
        policy = Partial(chunk=2)
        with executing(policy, Execution(mode, 600), DummyRobot().spec) as executed:
            episode = run_episode(DummyRobot(), executed, task="wait", seed=0)
            return episode.policy_counts.get("stale_chunks"), isinstance(executed, AsyncPolicy)

    assert longest("async") == (0, True) and longest("sync") == (None, False)


def test_a_delay_is_not_simulated_where_time_is_real():
    spec = replace(DummyRobot().spec, realtime=True)
    refusal = pytest.raises(EmbodiedError, match="time passes by itself at dummy")
    with refusal, executing(WavePolicy(), Execution("sync", 100), spec):
        pass
    with executing(WavePolicy(), Execution("async"), spec) as executed:
        executed.reset("wave", spec)  # a thread waits for what to think


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    assert main([*SWEEP, "--out", str(out)]) == 0
    return out


def test_a_sweep_is_the_first_delays_report_with_every_delay_beside_it(sweep, tmp_path):
    report = read(sweep)
    assert main([*ROLLOUT, "--out", str(tmp_path / "plain")]) == 0
    plain = read(tmp_path / "plain")
    assert list(report)[:5] == ["protocol", "protocol_hash", "tasks", "mean_of_tasks", "mean_of_tiers"]
    assert report["tasks"] == plain["tasks"] and report["protocol_hash"] == plain["protocol_hash"]
    assert "delays" not in plain and plain["protocol"]["execution"] == {"mode": "sync", "delay_ms": 0}
    assert [(entry["delay_ms"], entry["mode"]) for entry in report["delays"]] == [
        (delay_ms, mode) for delay_ms in (0, 150, 400) for mode in ("sync", "async")
    ]
    assert len({entry["protocol_hash"] for entry in report["delays"]}) == 6
    for entry in report["delays"]:
        assert entry["tasks"]["wait"]["seeds"] == [1_000_000, 1_000_001, 1_000_002]
        own = read(sweep / "delays" / f"{entry['mode']}_{entry['delay_ms']}ms")
        assert own["tasks"] == entry["tasks"] and own["protocol_hash"] == entry["protocol_hash"]
    assert report["delays"][3]["actions"]["held_steps"] > 0
    assert (sweep / "delay.png").read_bytes().startswith(b"\x89PNG")
    assert "| 150      | async | wait " in (sweep / "summary.md").read_text()


def test_a_sweep_does_not_depend_on_the_number_of_workers_or_on_grpc(sweep, tmp_path):
    for name, way in {"three": ["--workers", "3"], "remote": ["--workers", "2", "--remote"]}.items():
        assert main([*SWEEP, *way, "--out", str(tmp_path / name)]) == 0
        assert read(tmp_path / name)["delays"] == read(sweep)["delays"]
        assert (tmp_path / name / "episodes.jsonl").read_text() == (sweep / "episodes.jsonl").read_text()


def test_two_delays_compare_as_pairs(sweep, capfd):
    assert main(["compare", str(sweep), str(sweep / "delays" / "async_400ms")]) == 0
    printed = capfd.readouterr().out
    assert "| all   | 6 " in printed and "protocol.execution.delay_ms: 0 | 400" in printed


def test_a_report_from_before_there_were_delays_still_compares(sweep, tmp_path, capfd):
    old = read(sweep)
    del old["delays"], old["actions"], old["protocol"]["execution"]
    (tmp_path / "report.json").write_text(json.dumps(old))
    assert main(["compare", str(sweep), str(tmp_path / "report.json")]) == 0
    assert "protocol.execution: {'mode': 'sync', 'delay_ms': 0} | None" in capfd.readouterr().out


def test_one_mode_alone_and_only_the_first_execution_is_watched(tmp_path):
    out = tmp_path / "out"
    arguments = ["--delay-ms", "200,0", "--mode", "async", "--record", "1", "--task", "wait"]
    assert main([*ROLLOUT, *arguments, "--out", str(out)]) == 0
    report = read(out)
    assert report["protocol"]["execution"] == {"mode": "async", "delay_ms": 200}
    assert [(entry["mode"], entry["delay_ms"]) for entry in report["delays"]] == [("async", 200), ("async", 0)]
    from embodied.recording.reader import DatasetReader

    recording = DatasetReader(out / "recording")
    start = DummyRobot().reset(1_000_000, "wait").state[:3]
    assert len(recording.episodes) == 1 and np.allclose(recording.action[:2], start)  # held for two periods


def test_one_delay_alone_is_no_sweep(tmp_path, capfd):
    assert main([*ROLLOUT, "--delay-ms", "200", "--mode", "sync", "--out", str(tmp_path / "out")]) == 0
    report = read(tmp_path / "out")
    assert "delays" not in report and report["protocol"]["execution"] == {"mode": "sync", "delay_ms": 200}
    assert "sync, 200 ms delay" in (tmp_path / "out" / "summary.md").read_text()
    assert not (tmp_path / "out" / "delay.png").exists()
    assert capfd.readouterr().out.splitlines()[-1] == f"wrote {tmp_path}/out/report.json"


def test_in_real_time_the_robot_goes_on_at_its_own_rate_while_a_policy_thinks(tmp_path):
    robot = ["tests.live_robot", "--option", f"evidence={tmp_path / 'evidence'}", "--option", "horizon_s=2"]
    with hosting("host", *robot, "--realtime", "--address", "127.0.0.1:0") as (_, line):
        slow = ["--policy-option", "chunk=12", "--policy-option", "thinks_s=0.25"]
        robot = ["--robot", line.split()[-1], "--task", "sweep", "--episodes", "1", "--mode", "async"]
        assert main([*ROLLOUT, *robot, *slow, "--out", str(tmp_path / "out")]) == 0
    report = read(tmp_path / "out")
    latency, actions = report["latency_ms"], report["actions"]
    assert report["protocol"]["execution"] == {"mode": "async", "delay_ms": 0}
    assert latency["policy.inference"]["p50"] >= 250 > 50 > latency["act"]["p50"]
    assert 3 <= actions["chunks"] <= 7 and actions["stale_chunks"] == 0 and actions["held_steps"] < 10
    assert 8 < report["control"]["rate_hz"] < 11


@pytest.mark.parametrize("bad", ["", "fast", "-1", "1.5", "100,,200"])
def test_delays_that_are_none_are_refused(bad, tmp_path, capfd):
    assert main([*ROLLOUT, "--delay-ms", bad, "--out", str(tmp_path / "out")]) == 2
    assert "--delay-ms" in capfd.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_hold_does_not_change_what_a_policy_of_one_pose_means():
    policy = DelayedPolicy(WavePolicy(chunk=1), 1)
    policy.reset("wave", DummyRobot().spec)
    first = policy.act(DummyRobot().reset(0, "wait"))
    second = policy.act(DummyRobot().reset(0, "wait"))
    assert all(isinstance(action, PoseAction) for action in first) and len(first) == len(second) == 2
    assert np.array_equal(second[0].values, first[1].values)

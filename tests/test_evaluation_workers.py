"""An evaluation on several hosts: what is lost is run again, what was interrupted goes on, nothing is counted twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from embodied.cli import main
from embodied.journal import FILE, Journal, JournalError
from embodied.loop import run_episode
from embodied.recording.reader import DatasetReader
from embodied.rollouts import Job, Setup, open_both
from embodied.workers import DifferentRobotsError, Workers, _require_same
from policies.hold import HoldPolicy
from tests import toy_world
from tests.certificates import make_folder
from tests.servo_emulator.process import Emulator
from tests.test_cli import hosting
from tests.test_rollout_faults import EMBODIED, TIMEOUT_S, wait_until
from tests.tiny_policy import TOY_PLAN, tiny_checkpoint

TOY = ["rollout", "--robot", "tests.toy_world", "--policy", "policies.hold", "--task", "all", "--videos", "0"]
MORTAL = [*TOY[:2], "tests.mortal_robot", *TOY[3:]]


def read(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def same_evidence(first: dict, second: dict) -> bool:
    timed = ("run", "latency_ms", "control", "versions")
    return {k: v for k, v in first.items() if k not in timed} == {k: v for k, v in second.items() if k not in timed}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("plain") / "out"
    assert main([*MORTAL, "--episodes", "6", "--out", str(out)]) == 0
    return read(out)


def test_a_host_that_dies_is_replaced_and_its_episode_run_again_and_counted_once(plain, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MORTAL_ROBOT", str(tmp_path / "died"))
    hosts = ["--remote", "--workers", "2", "--episodes", "6", "--out", str(tmp_path / "out")]
    assert main([*MORTAL, *hosts]) == 0
    assert (tmp_path / "died").read_text() == "push 1000002\n"
    assert "push with seed 1000002 will be run again: robot server at " in capfd.readouterr().err
    assert same_evidence(read(tmp_path / "out"), plain)
    lines = (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()
    assert len({(e["task"], e["seed"]) for e in map(json.loads, lines)}) == len(lines) == 12


def test_an_episode_that_kills_every_worker_ends_the_rollout_and_is_named(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MORTAL_ROBOT", "always")
    assert main([*MORTAL, "--episodes", "4", "--out", str(tmp_path / "out")]) == 2
    assert "error: push with seed 1000002 was lost 3 times: a worker died without a word" in capfd.readouterr().err


def test_addresses_share_the_episodes_and_what_one_loses_another_runs(plain, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MORTAL_ROBOT", str(tmp_path / "died"))
    host = ("host", "tests.mortal_robot", "--address", "127.0.0.1:0")
    with hosting(*host) as (_, one), hosting(*host) as (_, other):
        robots = ["--robot", f"{one.split()[-1]},{other.split()[-1]}"]
        assert main([*MORTAL, *robots, "--episodes", "6", "--out", str(tmp_path / "out")]) == 0
    report = read(tmp_path / "out")
    assert report["run"]["workers"] == 2 and len(report["run"]["robot"]) == 2
    assert "will be run again" in capfd.readouterr().err and same_evidence(report, plain)


def test_robots_that_are_not_made_alike_share_no_rollout(tmp_path, capfd):
    with (
        hosting("host", "tests.toy_world", "--address", "127.0.0.1:0") as (_, one),
        hosting("host", "tests.toy_world", "--option", "bad_seed=7", "--address", "127.0.0.1:0") as (_, other),
    ):
        robots = ["--robot", f"{one.split()[-1]},{other.split()[-1]}"]
        assert main([*TOY, *robots, "--episodes", "1", "--out", str(tmp_path / "out")]) == 2
    said = capfd.readouterr().err
    assert "error: the robots of one rollout must be made alike" in said
    assert "  - rollout.robot.options.bad_seed: -1 | 7" in said


def test_two_arms_on_two_ports_share_a_rollout_and_their_report_tells_the_ports_apart_from_the_protocol(tmp_path):
    with contextlib.ExitStack() as stack:
        addresses, ports = [], []
        for seed in (3, 4):
            arm = stack.enter_context(Emulator(vendor="feetech", seed=seed, no_cameras=True))
            arm.calibration(tmp_path / f"{seed}.json")
            given = {"port": arm.port, "calibration": tmp_path / f"{seed}.json", "stage": "none", "cameras": "{}"}
            options = [word for name, value in given.items() for word in ("--option", f"{name}={value}")]
            _, line = stack.enter_context(
                hosting("host", "embodied.robots.so101", *options, "--address", "127.0.0.1:0")
            )
            addresses.append(line.split()[-1])
            ports.append(arm.port)
        arms = ["--robot", ",".join(addresses), "--task", "reach", "--episodes", "2", "--max-steps", "2"]
        assert main([*TOY, *arms, "--out", str(tmp_path / "out")]) == 0
    report = read(tmp_path / "out")
    assert set(report["protocol"]["robot"]["options"]) == {"size", "control_hz", "episode_s"}
    assert report["run"]["robot_place"]["port"] == ports[0]


def test_robots_on_two_systems_are_alike_and_those_of_two_simulators_are_not():
    with contextlib.ExitStack() as stack:
        _, _, opened = open_both(Setup("tests.toy_world", "policies.hold"), stack)
    versions = opened.robot.versions
    elsewhere = replace(opened, robot=replace(opened.robot, versions={**versions, "platform": "Linux-7"}))
    assert _require_same([opened, elsewhere]) == opened
    other = replace(opened, robot=replace(opened.robot, versions={**versions, "mujoco": "2.0"}))
    with pytest.raises(DifferentRobotsError, match=r"rollout\.robot\.versions\.mujoco: [\d.]+ \| 2\.0"):
        _require_same([opened, other])


def test_a_worker_whose_successor_would_load_another_checkpoint_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MORTAL_ROBOT", str(tmp_path / "died"))
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_text("as it was")
    with Workers([Setup("tests.mortal_robot", "tests.wave_policy", checkpoint)]) as workers:
        episodes = workers.run([Job("push", 1_000_000), Job("push", 1_000_002)])
        next(episodes)
        checkpoint.write_text("as training left it")
        with pytest.raises(DifferentRobotsError, match=r"rollout\.policy\.checkpoint_sha256: "):
            next(episodes)


def test_a_rollout_is_not_resumed_with_other_versions_and_each_is_named(tmp_path, capfd, monkeypatch):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    monkeypatch.setenv("MORTAL_ROBOT", "always")
    assert main([*MORTAL, "--episodes", "4", "--resume", "--out", str(out)]) == 2
    head, *episodes = (partial / FILE).read_text().splitlines()
    began = json.loads(head)
    began["versions"]["robot"]["mujoco"] = "2.0"
    (partial / FILE).write_text("\n".join([json.dumps(began), *episodes, ""]))
    capfd.readouterr()
    assert main([*MORTAL, "--episodes", "4", "--resume", "--out", str(out)]) == 2
    assert "  - protocol.versions.robot.mujoco: 2.0 | " in capfd.readouterr().err
    assert "platform" not in head and began["versions"]["policy"] and began["versions"]["here"]


def test_one_policy_server_for_all_workers_gives_the_same_report(plain, tmp_path):
    shared = ["--remote", "--workers", "2", "--shared-policy", "--episodes", "6", "--out", str(tmp_path / "out")]
    assert main([*MORTAL, *shared]) == 0
    report = read(tmp_path / "out")
    assert same_evidence(report, plain) and report["run"]["shared_policy"]


@pytest.mark.parametrize("workers", ["2", pytest.param("4", marks=pytest.mark.slow)])
def test_with_rows_each_episode_goes_the_same_way_at_any_number_of_workers(workers, tmp_path):
    tiny_checkpoint(TOY_PLAN).save(tmp_path / "checkpoint")
    policy = ["--policy", "policies.token", "--checkpoint", str(tmp_path / "checkpoint"), "--policy-option", "rows=2"]
    reports = []
    for count in ("1", workers):
        out = tmp_path / count
        shared = ["--shared-policy", "--workers", count, "--episodes", "4", "--record", "4", "--out", str(out)]
        assert main([*TOY, *policy, *shared]) == 0
        reports.append((read(out), DatasetReader(out / "recording", frames=False).action.tobytes()))
    (one, actions), (many, other) = reports
    assert same_evidence(one, many) and actions == other
    assert one["protocol"]["policy"]["options"]["rows"] == 2 and one["protocol"]["policy"]["checkpoint_sha256"]


def test_a_policy_server_with_tls_and_a_token_answers_for_a_robot_that_the_rollout_hosts(plain, tmp_path):
    make_folder(tmp_path / "tls")
    (tmp_path / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    secret = ["--tls", str(tmp_path / "tls"), "--token", str(tmp_path / "token")]
    with hosting("serve", "policies.hold", *secret, "--address", "127.0.0.1:0") as (_, line):
        given = ["--policy", line.split()[-1], *secret, "--remote", "--episodes", "6", "--out", str(tmp_path / "out")]
        assert main([*MORTAL, *given]) == 0
    assert same_evidence(read(tmp_path / "out"), plain)


def test_a_robot_is_hosted_by_another_environments_python(plain, tmp_path):
    environment = tmp_path / "env"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.write_text(f'#!/bin/sh\ntouch {tmp_path}/asked\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    hosted = ["--robot-env", str(environment), "--episodes", "6", "--out", str(tmp_path / "out")]
    assert main([*MORTAL, *hosted]) == 0
    assert same_evidence(read(tmp_path / "out"), plain) and (tmp_path / "asked").exists()


def test_a_rollout_that_was_killed_and_resumed_gives_the_report_of_one_that_was_not(
    plain, tmp_path, capfd, monkeypatch
):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    monkeypatch.setenv("MORTAL_ROBOT", "slow")
    command = [*EMBODIED, *MORTAL, "--episodes", "6", "--resume", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(lambda: (partial / FILE).exists() and (partial / FILE).read_text().count("\n") > 3)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
    with (partial / FILE).open("a") as journal:
        journal.write('{"key":["reach",10')  # torn by a kill
    monkeypatch.delenv("MORTAL_ROBOT")
    assert main([*MORTAL, "--episodes", "6", "--resume", "--seed", "2000000", "--out", str(out)]) == 2
    said = capfd.readouterr().err
    assert "holds another rollout" in said and "- protocol.seeds.first: 1000000 | 2000000" in said
    assert main([*MORTAL, "--episodes", "6", "--resume", "--out", str(out)]) == 0
    report = read(out)
    assert same_evidence(report, plain) and 3 <= report["run"]["episodes_from_before"] < 12
    assert not partial.exists() and not (out / FILE).exists()


def test_resume_begins_where_nothing_was_left(plain, tmp_path):
    assert main([*MORTAL, "--episodes", "6", "--resume", "--out", str(tmp_path / "out")]) == 0
    assert same_evidence(read(tmp_path / "out"), plain)


def test_a_journal_gives_back_every_number_of_an_episode(tmp_path):
    episode = run_episode(toy_world.make(), HoldPolicy(), task="push", seed=5)
    journal = Journal(tmp_path, {"a": 1})
    journal.add(("push", 5, "sync", 0), episode)
    assert Journal(tmp_path, {"a": 1}).finished == {("push", 5, "sync", 0): episode}
    with pytest.raises(JournalError, match=r"protocol.a: 1 \| 2"):
        Journal(tmp_path, {"a": 2})


@pytest.mark.parametrize(
    ("line", "damage", "words"),
    [
        (1, b"\x00\xff\n", "the first line, which says what the rollout is, is damaged"),
        (1, b"[1, 2]\n", "the first line, which says what the rollout is, is damaged"),
        (2, b"\x00\xff\n", "line 2 is damaged .*; remove that line, and its episode is run again"),
        (2, b'{"key": ["push", 5]}\n', "line 2 is damaged .*'episode'.*; remove that line"),
    ],
)
def test_a_damaged_line_of_a_journal_is_named(tmp_path, line, damage, words):
    episode = run_episode(toy_world.make(), HoldPolicy(), task="push", seed=5)
    Journal(tmp_path, {"a": 1}).add(("push", 5, "sync", 0), episode)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join([*lines[: line - 1], damage, *lines[line:]]))
    with pytest.raises(JournalError, match=words):
        Journal(tmp_path, {"a": 1})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--robot-env", "nowhere"], "nowhere is no virtual environment: it has no bin/python"),
        (["--robot", "127.0.0.1:1,127.0.0.1:1"], "--robot names an address twice"),
        (["--robot", "127.0.0.1:1,127.0.0.1:2", "--workers", "4"], "--workers must be 2, one an address"),
        (["--robot", "127.0.0.1:1", "--robot-env", "nowhere"], "--robot-env goes with a robot's module"),
        (["--policy", "expert", "--shared-policy"], "--shared-policy goes with a policy's module"),
        (["--shared-policy", "--workers", "9"], "a policy server has room for 8 sessions"),
        (["--resume", "--record", "1"], "--resume goes without --record"),
    ],
)
def test_what_does_not_go_together_is_one_line(arguments, words, tmp_path, capfd):
    assert main([*TOY, *arguments, "--episodes", "1", "--out", str(tmp_path / "out")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line and line.startswith("error: ") and not [*tmp_path.iterdir()]

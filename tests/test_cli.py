"""The command line: a rollout is evidence or leaves nothing behind, a mistake is one line, a server ends when asked."""

import argparse
import importlib
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.cli import VERBS, main
from embodied.cli.arguments import add_robot_options
from embodied.errors import ProtocolError
from embodied.recording.reader import DatasetReader
from embodied.types import PoseAction
from tests.toy_world import ToyRobot

EMBODIED = [sys.executable, "-m", "embodied"]
ROLLOUT = ["rollout", "--robot", "tests.toy_world", "--policy", "policies.hold"]
ROLLOUT += ["--task", "all", "--episodes", "3", "--videos", "0"]
TIMEOUT_S = 60


def embodied(*arguments: object, cwd=None) -> subprocess.CompletedProcess[str]:
    command = [*EMBODIED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=cwd)


def read_report(folder) -> dict:
    return json.loads((folder / "report.json").read_text())


def content(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def error_of(capfd) -> str:
    """Return the one line that a user's mistake is answered with; the progress bar may stand before it."""
    said = capfd.readouterr().err
    lines = said.strip().splitlines()
    assert not any(line.startswith("Traceback") for line in lines), said
    assert lines[-1].startswith("error: ")
    return lines[-1]


@contextmanager
def hosting(*arguments: str):
    """Run `embodied host` or `serve` and yield the process and its printed line."""
    command, pipe = [*EMBODIED, *arguments], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Make a report with a robot in the worker's own process, and videos."""
    out = tmp_path_factory.mktemp("local") / "deep" / "report"
    assert main([*ROLLOUT, "--policy", "expert", "--videos", "1", "--out", str(out)]) == 0
    return out


def test_a_rollout_writes_a_report_a_summary_the_episodes_and_videos(local):
    report = read_report(local)
    assert list(report)[:5] == ["protocol", "protocol_hash", "tasks", "mean_of_tasks", "mean_of_tiers"]
    for task in ("reach", "push"):
        result = report["tasks"][task]
        assert result["seeds"] == [1_000_000, 1_000_001, 1_000_002] and result["outcomes"] == [1, 1, 1]
        assert result["wilson95"] == pytest.approx([0.4385, 1.0], abs=1e-4)
    assert report["mean_of_tasks"] == 1.0 and report["protocol"]["policy"]["privileged"]
    assert list(report["latency_ms"])[:3] == ["act", "step", "reset"] and report["versions"]["python"]
    assert report["latency_ms"]["robot.motion"]["p50"] > 0 and report["actions"]["dropped"] == 0
    assert "| reach | 3        | 3 " in (local / "summary.md").read_text()
    episodes = [json.loads(line) for line in (local / "episodes.jsonl").read_text().splitlines()]
    assert [e["task"] for e in episodes] == ["reach"] * 3 + ["push"] * 3
    files = sorted(str(path.relative_to(local)) for path in local.rglob("*.*"))
    assert files == [
        "contact_sheet.png",
        "episodes.jsonl",
        "report.json",
        "summary.md",
        "videos/push_1000000.mp4",
        "videos/reach_1000000.mp4",
    ]
    assert [path.name for path in local.parent.iterdir()] == ["report"]  # no partial folder stays


def test_outcomes_do_not_depend_on_the_number_of_workers_or_on_grpc(tmp_path):
    arguments = [*ROLLOUT, "--robot", "tests.dummy_robot", "--episodes", "5"]
    ways = {"one": [], "three": ["--workers", "3"], "remote": ["--workers", "2", "--remote", "--frames", "raw"]}
    for name, way in ways.items():
        assert main([*arguments, *way, "--out", str(tmp_path / name)]) == 0
    reports = [read_report(tmp_path / name) for name in ways]
    assert reports[0]["tasks"] == reports[1]["tasks"] == reports[2]["tasks"]
    assert len({report["protocol_hash"] for report in reports}) == 1
    records = {(tmp_path / name / "episodes.jsonl").read_text() for name in ways}
    assert len(records) == 1
    assert [report["run"]["over_grpc"] for report in reports] == [False, False, True]


def test_a_recording_is_ordered_by_task_and_seed_however_it_was_made(tmp_path):
    arguments = [*ROLLOUT, "--robot", "tests.dummy_robot", "--record", "2"]
    ways = {"one": [], "three": ["--workers", "3"], "remote": ["--workers", "2", "--remote"]}
    for name, way in ways.items():
        assert main([*arguments, *way, "--out", str(tmp_path / name)]) == 0
    one, three, remote = (content(tmp_path / name / "recording") for name in ways)
    assert one == three == remote
    report, recording = read_report(tmp_path / "one"), DatasetReader(tmp_path / "one" / "recording")
    assert report["run"]["recording"] == "recording"
    assert [(e.task, e.seed) for e in recording.episodes] == [
        (task, seed) for task in ("reach", "wait") for seed in (1_000_000, 1_000_001)
    ]
    assert len(recording) == sum(sum(task["steps"][:2]) for task in report["tasks"].values())
    assert recording.collection["protocol_hash"] == report["protocol_hash"]


def test_a_recording_and_a_video_are_made_of_the_same_episode(tmp_path):
    out = tmp_path / "out"
    told = ["--instruction", "push the blue cube", "--policy", "expert", "--videos", "1", "--record", "1"]
    assert main([*ROLLOUT, *told, "--out", str(out)]) == 0
    assert (out / "videos" / "push_1000000.mp4").is_file()
    assert DatasetReader(out / "recording").instructions == ("push the blue cube",)
    assert [path.name for path in sorted((out / "recording").iterdir())] == ["data", "meta"]


def test_an_instruction_of_the_users_is_in_the_protocol_and_its_hash(local, tmp_path, capfd):
    policy = ["--policy", "expert"]
    assert main([*ROLLOUT, *policy, "--instruction", "push the blue cube", "--out", str(tmp_path / "out")]) == 0
    report = read_report(tmp_path / "out")
    assert report["protocol"]["instruction"] == "push the blue cube"
    assert report["protocol_hash"] != read_report(local)["protocol_hash"]
    assert main(["compare", str(local), str(tmp_path / "out")]) == 0
    printed = capfd.readouterr().out
    assert "| all   | 6 " in printed and "protocol.instruction: None | push the blue cube" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--robot", "envs.nope"], "no robot module 'envs.nope'; this installation has ["),
        (["--robot", "envs.nope", "--remote"], "no robot module 'envs.nope'"),
        (["--policy", "policies.nope"], "no policy module 'policies.nope'; this installation has ['policies.hold'"),
        (["--task", "reach,juggle"], "no task 'juggle'; toy has ['push', 'reach']"),
        (["--camera", "side"], "no camera 'side'; toy has ['front']"),
        (["--checkpoint", "/no/such"], "no checkpoint at /no/such"),
        (["--option", "sise=3"], "no option 'sise'"),
        (["--seed", "999999"], "evaluations begin at 1000000"),
        (["--instruction", "  "], "the instruction is empty"),
        (["--instruction", "x" * 10_000], "the instruction has 10000 characters; at most 1000 are read"),
        (["--robot", "127.0.0.1:1", "--workers", "2"], "--workers must be 1"),
        (["--policy", "expert", "--remote"], "which is not at hand"),
        (["--policy", "127.0.0.1:1", "--within-s", "1"], "--within-s goes with --mode async"),
        (["--takeover"], "--takeover goes with a robot at an address, and there is none"),
        (["--policy", "127.0.0.1:1", "--takeover"], "--takeover goes with a robot at an address"),
        (["--policy", "127.0.0.1:1", "--max-age-s", "1"], "--max-age-s goes with a robot at an address or --remote"),
        (["--robot", "127.0.0.1:1", "--within-s", "1", "--mode", "async"], "--within-s goes with a policy at an addr"),
        (["--frames", "raw"], "--frames goes with a robot or a policy at an address, or --remote"),
        (["--remote", "--tls", "certs"], "--tls goes with a robot or a policy at an address"),
        (["--robot", "127.0.0.1:1", "--token", "/no/such"], "/no/such"),
    ],
)
def test_a_mistake_is_one_line_and_status_2_and_nothing_is_written(arguments, message, tmp_path, capfd):
    assert main([*ROLLOUT, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in error_of(capfd)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_holds_something_is_kept_unless_forced_and_a_report(tmp_path, capfd):
    (tmp_path / "precious.txt").write_text("mine")
    for force in ([], ["--force"]):
        assert main([*ROLLOUT, *force, "--out", str(tmp_path)]) == 2
        assert "choose another --out" in error_of(capfd)
    assert main([*ROLLOUT, "--out", str(tmp_path / "precious.txt")]) == 2
    (tmp_path / "precious.txt").rename(tmp_path / "report.json")
    assert main([*ROLLOUT, "--episodes", "1", "--force", "--out", str(tmp_path)]) == 0
    assert read_report(tmp_path)["tasks"]["push"]["episodes"] == 1


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_rollout_leaves_nothing_behind(signum, status, tmp_path):
    command = [*EMBODIED, *ROLLOUT, "--robot", "tests.dummy_robot", "--episodes", "20000", "--remote"]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stderr is not None
        process.stderr.read(1)  # the progress bar: the workers are at work
        # Ctrl-C goes to the whole group, a service manager's SIGTERM to the one.
        (os.killpg if signum == signal.SIGINT else os.kill)(process.pid, signum)
        assert b"Traceback" not in process.stderr.read()  # until the last child that holds the pipe is gone
        assert process.wait(TIMEOUT_S) == status
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_host_serves_until_asked_to_end(signum):
    with hosting("host", "tests.toy_world", "--option", "size=24", "--address", "127.0.0.1:0") as (process, line):
        assert line.startswith("serving toy on 127.0.0.1:")
        with RemoteRobot(line.split()[-1]) as robot:
            assert robot.spec == ToyRobot(24, -1).spec
        process.send_signal(signum)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None and process.stderr.read() == ""


def test_robot_and_policy_may_both_be_addresses(tmp_path):
    with (
        hosting("host", "tests.toy_world", "--address", "127.0.0.1:0") as (_, robot),
        hosting("serve", "policies.hold", "--address", "127.0.0.1:0") as (_, policy),
    ):
        addresses = ["--robot", robot.split()[-1], "--policy", policy.split()[-1]]
        assert main([*ROLLOUT, *addresses, "--out", str(tmp_path / "out")]) == 0
    report = read_report(tmp_path / "out")
    assert report["run"]["over_grpc"] and report["protocol"]["policy"]["module"] == "policies.hold"
    assert report["protocol"]["robot"]["options"] == {"size": 16, "bad_seed": -1}  # as their servers tell
    assert report["tasks"]["reach"]["outcomes"] == [0, 0, 0]


def test_a_rollout_takes_the_robot_from_its_holder_only_when_told_to(tmp_path, capfd):
    with hosting("host", "tests.toy_world", "--address", "127.0.0.1:0") as (_, line):
        address = line.split()[-1]
        arguments = [*ROLLOUT, "--robot", address, "--frames", "raw", "--out", str(tmp_path / "out")]
        with RemoteRobot(address, name="the holder") as holder:
            holder.reset(1, "push")
            assert main(arguments) == 2
            assert "the holder" in error_of(capfd)
            assert main([*arguments, "--takeover", "--max-age-s", "30"]) == 0
            with pytest.raises(ProtocolError):
                holder.step(PoseAction(np.zeros(2, np.float32)))
    assert read_report(tmp_path / "out")["run"]["over_grpc"]


def test_a_port_in_use_is_named():
    with hosting("host", "tests.toy_world", "--address", "127.0.0.1:0") as (_, line):
        port = line.rpartition(":")[2]
        refused = embodied("host", "tests.toy_world", "--address", f"127.0.0.1:{port}")
    assert refused.returncode == 2 and f"error: port {port} of 127.0.0.1 is in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_help_is_there_for_every_verb_and_imports_nothing_heavy():
    heavy = {"torch", "mujoco", "grpc", "cv2", "av", "transformers"}
    probe = "import sys; from embodied.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    for arguments in (["--help"], ["rollout", "--help"], ["finetune", "--help"]):
        command = [sys.executable, "-c", probe, *arguments]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S).stdout
        assert "usage: embodied" in printed and not heavy & {*printed.splitlines()[-1].split()}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verbs_help_has_an_example(verb, capfd):
    assert main([verb, "--help"]) == 0
    assert f"embodied {verb} " in capfd.readouterr().out.partition("example")[2]


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_verb_can_be_typed_as_they_stand(verb):
    module = importlib.import_module(f"embodied.cli.{verb}")
    parser = argparse.ArgumentParser(prog=verb)
    module.add_arguments(parser)
    lines = module.EXAMPLE.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith(f"  embodied {verb}")]
    assert commands
    for _, _, *arguments in commands:
        words = list(itertools.takewhile(lambda word: word not in (">", "|", "&&"), arguments))
        checkpoint = getattr(parser.parse_args(words), "checkpoint", None)
        assert checkpoint is None or checkpoint.is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["rollout"],
        [*ROLLOUT],
        [*ROLLOUT, "--out", "x", "--episodes", "0"],
        [*ROLLOUT, "--out", "x", "--delay-ms", "4000000000000"],
        [*ROLLOUT, "--out", "x", "--max-age-s", "1e300"],
        [*ROLLOUT, "--out", "x", "--within-s", "1e300"],
        ["check", "127.0.0.1:1", "--timeout", "1e300"],
        ["certs", "no-folder", "--host", "robot", "--days", "99999999"],
    ],
)
def test_an_argument_that_is_missing_or_unreadable_is_status_2_and_one_line(arguments, capfd):
    assert main(arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_what_ages_an_action_or_changes_its_frames_is_in_the_protocol_and_its_hash(tmp_path):
    made = []
    for number, given in enumerate(([], ["--frames", "raw"], ["--max-age-s", "30"], ["--frames", "jpeg:80"])):
        out = tmp_path / str(number)
        remote = ["--robot", "tests.toy_world", "--policy", "policies.hold", "--remote", *given]
        assert main([*ROLLOUT, *remote, "--out", str(out)]) == 0
        made.append(read_report(out))
    plain, raw, aged, compressed = made
    assert "max_age_s" not in plain["protocol"] and "frames" not in plain["protocol"]
    assert raw["protocol_hash"] == plain["protocol_hash"]  # the same pixels arrive
    assert aged["protocol"]["max_age_s"] == 30 and compressed["protocol"]["frames"] == "jpeg:80"
    assert len({each["protocol_hash"] for each in made}) == 3


def test_options_come_from_a_file_and_the_last_word_holds(tmp_path):
    file = tmp_path / "robot.json"
    file.write_text('{"size": 32, "bad_seed": 7}', encoding="utf-8")
    parser = argparse.ArgumentParser()
    add_robot_options(parser)
    args = parser.parse_args(["--options", str(file), "--option", "size=48"])
    assert dict(args.option) == {"size": 48, "bad_seed": 7}


def test_a_package_that_is_not_installed_is_one_line_and_a_module_of_ours_a_bug(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "serial", None)  # as if it were not there
    for name in [
        name for name in sys.modules if name.startswith(("embodied.hardware", "embodied.cli.", "embodied.robots"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["calibrate", "embodied.robots.so101"]) == 2
    assert error_of(capfd) == (
        "error: embodied calibrate needs 'serial', which is not installed here; embodied doctor names the command"
    )
    monkeypatch.setitem(sys.modules, "embodied.hardware.arm", None)
    with pytest.raises(ModuleNotFoundError):
        main(["calibrate", "embodied.robots.so101"])

"""Whatever a newcomer gets wrong is one line that names it, a status of 2, and nothing written; servers live on."""

import json
import os
import re
import shutil
import socket
import sys

import pytest
from safetensors.torch import load_file, save_file

from embodied.bridge.robot_client import RemoteRobot
from embodied.cli import main
from embodied.errors import InvalidInstructionError, SpecMismatchError
from policies.checkpoint import CheckpointError, load_checkpoint
from policies.token import TokenPolicy, make
from tests.test_cli import hosting
from tests.tiny_policy import SPEC, TOY_PLAN, record_toy, tiny_checkpoint
from tests.toy_world import ToyRobot

ROLLOUT = ["rollout", "--robot", "tests.toy_world", "--policy", "policies.hold", "--task", "reach"]
ROLLOUT += ["--episodes", "1", "--videos", "0", "--max-steps", "4"]
COLLECT = ["collect", "--robot", "tests.toy_world", "--episodes", "2"]
FINETUNE = ["finetune", "--steps", "2", "--batch", "2"]
TOKEN = [*ROLLOUT, "--policy", "policies.token"]
GYM = [*ROLLOUT, "--robot", "envs.gymnasium_robot", "--task", "all"]


NAN_ROBOT = """
from dataclasses import replace
import numpy as np
from tests.toy_world import ToyRobot

class NanRobot(ToyRobot):
    def _observe(self):
        observation = super()._observe()
        return replace(observation, state=np.full(2, np.nan, np.float32)) if self.steps > 2 else observation

def make():
    return NanRobot(16, -1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a tiny checkpoint of random weights for the toy robot and a recording of it, each also damaged."""
    root = tmp_path_factory.mktemp("material")
    tiny_checkpoint(TOY_PLAN).save(root / "good")
    for name, file in (("cut", "model.safetensors"), ("garbled", "tokenizer.json"), ("empty", "config.json")):
        shutil.copytree(root / "good", root / name)
        whole = (root / name / file).read_bytes()
        (root / name / file).write_bytes({"cut": whole[: len(whole) // 2], "garbled": b"\xff\x00", "empty": b""}[name])
    record_toy(root / "data")
    for name, file in (("data_cut", "data/chunk-000/file-000.parquet"), ("data_old", "meta/info.json")):
        shutil.copytree(root / "data", root / name)
        whole = (root / name / file).read_bytes()
        (root / name / file).write_bytes(whole[:-200] if name == "data_cut" else whole.replace(b"v3.0", b"v2.1"))
    (root / "half_report.json").write_text('{"protocol": {}, "tasks": {"reach": {}}}')
    (root / "other").mkdir()
    tiny_checkpoint().save(root / "other" / "checkpoint")
    return root


def refused(arguments, capfd) -> str:
    """Run a command line that must be refused and return its last words."""
    assert main([str(a) for a in arguments]) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said and "error: " in said
    return said.partition("error: ")[2].strip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*ROLLOUT, "--robot", "envs/so101.py"], "no robot module 'envs/so101.py'"),
        ([*ROLLOUT, "--robot", "policies.hold"], "HoldPolicy, which is no robot: it lacks"),
        ([*ROLLOUT, "--policy", "tests.toy_world"], "SafeRobot, which is no policy: it lacks ['act']"),
        ([*ROLLOUT, "--task", "reach,"], "no task ''; toy has ['push', 'reach']"),
        ([*ROLLOUT, "--option", "size=big"], "option 'size' of tests.toy_world takes int, got 'big'"),
        ([*ROLLOUT, "--option", "size=16.5"], "takes int, got 16.5"),
        ([*ROLLOUT, "--option", "size"], "an option is NAME=VALUE, got 'size'"),
        ([*ROLLOUT, "--options", "nowhere.json"], "nowhere.json cannot be read"),
        ([*ROLLOUT, "--options", "/dev/null"], "/dev/null cannot be read"),
        ([*ROLLOUT, "--robot", "tests.dummy_robot", "--option", "size=3"], "no option 'size'"),
        ([*ROLLOUT, "--episodes", "0"], "must be at least 1, got 0"),
        ([*ROLLOUT, "--episodes", "-1"], "must not be negative, got -1"),
        ([*ROLLOUT, "--episodes", "x"], "must be a whole number, got 'x'"),
        ([*ROLLOUT, "--seed", str(2**63)], "must fit 64 bits"),
        ([*ROLLOUT, "--workers", "0"], "must be at least 1"),
        ([*ROLLOUT, "--instruction", ""], "the instruction is empty"),
        ([*ROLLOUT, "--instruction", "pick \udcff up"], "it has half a character"),
        ([*ROLLOUT, "--robot", "localhost:port"], "'localhost:port' is no address"),
        ([*GYM, "--option", "id=Pendulm-v9"], "gymnasium cannot make 'Pendulm-v9'"),
        ([*GYM, "--option", "id=CartPole-v1"], "CartPole-v1 takes Discrete(2); a robot needs a Box"),
        ([*GYM, "--option", "id=3"], "option 'id' of envs.gymnasium_robot takes str, got 3"),
        ([*GYM, "--option", "control_hz=-5"], "control_hz and bound are above 0"),
        ([*GYM, "--videos", "1", "--option", "id=Pendulum-v1"], "Pendulum-v1"),
        ([*COLLECT, "--task", "juggle"], "no task 'juggle'; toy has ['push', 'reach']"),
        ([*COLLECT, "--perturb", "nan"], "a share from 0 to 1"),
        ([*COLLECT, "--seed", "1000000"], "those above are for evaluation"),
        ([*COLLECT, "--resume"], "holds no unfinished collection to go on with"),
        ([*COLLECT, "--finish"], "holds no unfinished collection to go on with"),
        ([*COLLECT, "--robot", "tests.dummy_robot"], "tests.dummy_robot offers no expert()"),
        (
            [*COLLECT, "--robot", "envs.so101", "--task", "reach", "--option", "render=false"],
            "so101 sent no frame of ['front', 'wrist']",
        ),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(arguments, words, tmp_path, capfd):
    assert words in refused([*arguments, "--out", tmp_path / "out"], capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*TOKEN, "--checkpoint", "/no/such"], "no checkpoint at /no/such"),
        ([*FINETUNE, "--dataset", "/no/such"], "no such dataset"),
        ([*FINETUNE, "--dataset", "{}/good"], "info.json: no such file"),
        ([*FINETUNE, "--dataset", "{}/data_cut"], "truncated"),
        ([*FINETUNE, "--dataset", "{}/data_old"], "version v2.1; this reads v3.0"),
        ([*FINETUNE, "--dataset", "{}/data", "--resume"], "nothing to resume in"),
        ([*FINETUNE, "--dataset", "{}/data", "--start", "{}/other/checkpoint"], "name: expected dummy, found toy"),
        ([*FINETUNE, "--dataset", "{}/data", "--learning-rate", "nan"], "the learning rate is nan"),
    ],
)
def test_a_bad_checkpoint_or_dataset_is_named_and_nothing_is_written(arguments, words, folder, tmp_path, capfd):
    given = [argument.format(folder) for argument in arguments]
    assert words in refused([*given, "--out", tmp_path / "out"], capfd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("garbled", "tokenizer.json is no tokenizer"),
        ("empty", "config.json does not describe a policy"),
        ("cut", "model.safetensors does not fit config.json"),
        ("data", "no model.safetensors in it"),
    ],
)
def test_a_damaged_file_of_a_checkpoint_is_named(name, file, folder):
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(folder / name)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    checkpoint = tiny_checkpoint(TOY_PLAN)
    checkpoint.save(tmp_path, {name: weights * float("nan") for name, weights in checkpoint.model.state_dict().items()})
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(tmp_path)


SPEC_EDITS = {
    "name": lambda spec: spec.update(name="other"),
    "version": lambda spec: spec.update(version="2"),
    "control_hz": lambda spec: spec.update(control_hz=20.0),
    "watchdog_s": lambda spec: spec.update(watchdog_s=9.0),
    "action: expected ['gripper', 'pan'] in this order": lambda spec: spec["action"].reverse(),
    "state.gripper.unit": lambda spec: spec["state"][1].update(unit="deg"),
    "state.pan.low": lambda spec: spec["state"][0].update(low=-1.0),
    "action.pan.high": lambda spec: spec["action"][0].update(high=1.0),
    "action.gripper.mode": lambda spec: spec["action"][1].update(mode="delta"),
    "cameras: expected ['side']": lambda spec: spec["cameras"][0].update(name="side"),
    "cameras.front.height": lambda spec: spec["cameras"][0].update(height=32),
    "cameras.front.width": lambda spec: spec["cameras"][0].update(width=32),
    "cameras.front.fovy_deg": lambda spec: spec["cameras"][0].update(fovy_deg=50.0),
}


@pytest.mark.parametrize("difference", SPEC_EDITS)
def test_a_checkpoint_for_a_robot_that_differs_in_one_thing_is_refused(difference, folder, tmp_path):
    shutil.copytree(folder / "good", tmp_path / "edited")
    content = json.loads((tmp_path / "edited/config.json").read_text())
    SPEC_EDITS[difference](content["plans"][0]["spec"])
    (tmp_path / "edited/config.json").write_text(json.dumps(content))
    weights = load_file(tmp_path / "edited/model.safetensors")  # those of one robot alone go by its name
    name = content["plans"][0]["spec"]["name"]
    renamed = {key.replace("ports.toy.", f"ports.{name}."): tensor for key, tensor in weights.items()}
    save_file(renamed, tmp_path / "edited/model.safetensors")
    with pytest.raises(SpecMismatchError, match=re.escape(f"- {difference}")):
        make(tmp_path / "edited", horizon=1).reset("reach the target", ToyRobot(16, -1).spec)


def test_a_robot_of_another_size_is_refused_with_every_difference(folder, tmp_path, capfd):
    arguments = [*TOKEN, "--checkpoint", folder / "good", "--policy-option", "horizon=1", "--option", "size=24"]
    said = refused([*arguments, "--out", tmp_path / "out"], capfd)
    for side in ("height", "width"):
        assert f"- cameras.front.{side}: expected 16, found 24" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", " \n", "x" * 10_000, "拿起红色方块", "nimm den roten Würfel", "🤖🤖", "\udc80"])
def test_a_token_policy_refuses_what_it_cannot_read_and_then_acts_on_nothing(text):
    with pytest.raises(InvalidInstructionError):
        TokenPolicy(tiny_checkpoint(), horizon=1).reset(text, SPEC)


@pytest.mark.parametrize("over_grpc", [False, True])
def test_a_state_that_is_no_number_ends_the_rollout_in_words(over_grpc, tmp_path, capfd, monkeypatch):
    (tmp_path / "nan_robot.py").write_text(NAN_ROBOT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    robot = ["--robot", "nan_robot", *(["--remote"] if over_grpc else [])]
    assert refused([*ROLLOUT, *robot, "--out", tmp_path / "out"], capfd) == "state field 'pan' is nan"
    assert not (tmp_path / "out").exists()


def test_a_report_without_results_is_no_report(folder, capfd):
    assert "half_report.json is no report" in refused(["compare", *[folder / "half_report.json"] * 2], capfd)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["host", "tests.toy_world", "--address", "0.0.0.0:0"], "--insecure"),
        (["serve", "policies.hold", "--address", "0.0.0.0:0"], "--insecure"),
        (["host", "tests.toy_world", "--address", "nowhere"], "'nowhere' is no address"),
        (["host", "envs.nope", "--address", "127.0.0.1:0"], "no robot module 'envs.nope'"),
        (["serve", "policies.nope", "--address", "127.0.0.1:0"], "no policy module 'policies.nope'"),
        (["serve", "policies.token", "--checkpoint", "/no/such", "--address", "127.0.0.1:0"], "no checkpoint at"),
        (["host", "127.0.0.1:1"], "is served already"),
    ],
)
def test_a_server_that_cannot_serve_says_why(arguments, words, capfd):
    assert words in refused(arguments, capfd)


def test_a_server_outlives_garbage_a_wrong_caller_and_a_second_operator(tmp_path, capfd):
    with hosting("host", "tests.toy_world", "--address", "127.0.0.1:0") as (_, line):
        address = line.split()[-1]
        host, port = address.split(":")
        for junk in (b"\xff" * 2000, b"GET / HTTP/1.1\r\n\r\n", b""):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(junk)
        policy = ["--policy", address]
        assert "is no policy server" in refused([*ROLLOUT, *policy, "--out", tmp_path / "a"], capfd)
        for verb in (["host", "tests.toy_world"], ["serve", "policies.hold"]):
            assert f"port {port} of {host} is in use" in refused([*verb, "--address", address], capfd)
        with RemoteRobot(address) as first:
            first.reset(0, "reach")
            said = refused([*ROLLOUT, "--robot", address, "--out", tmp_path / "b"], capfd)
            assert "is held by" in said and "one operator" in said
        assert main([*ROLLOUT, "--robot", address, "--out", str(tmp_path / "c")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c"]

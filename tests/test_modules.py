"""A dotted module name is the registry: what is there opens, what is not is named along with the choices."""

from pathlib import Path

import pytest

from embodied.errors import UnknownNameError
from embodied.modules import (
    InvalidOptionError,
    ModuleUnusableError,
    check_options,
    checkpoint_sha256,
    choices,
    is_address,
    load_function,
    open_expert,
    open_policy,
    open_robot,
    parse_option,
)
from embodied.types import Policy, Robot


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of a third party's and return its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written = []

    def write(text: str) -> str:
        written.append(f"third_party_{len(written)}_{tmp_path.name.replace('-', '_')}")
        (tmp_path / f"{written[-1]}.py").write_text(text)
        return written[-1]

    return write


POLICY = "class P:\n    def reset(self, instruction, spec): ...\n    def act(self, observation): ...\n"


def test_a_colon_makes_an_address():
    assert is_address("127.0.0.1:50051") and is_address("unix:/tmp/robot") and not is_address("envs.so101")


def test_a_robot_and_its_expert_open_by_module_name_with_options():
    robot = open_robot("tests.toy_world", {"size": 24})
    assert isinstance(robot, Robot) and robot.spec.cameras[0].height == 24
    assert isinstance(open_expert("tests.toy_world", robot), Policy)


def test_unknown_modules_are_refused_with_the_choices():
    with pytest.raises(UnknownNameError, match=r"no policy module 'policies\.nope'.*'policies\.hold'"):
        open_policy("policies.nope", None, {})
    for name in ("envs.nope", "nowhere.at.all", "", "..relative", "a b"):
        with pytest.raises(UnknownNameError, match="no robot module"):
            open_robot(name, {})


def test_choices_are_found_by_reading_and_include_only_what_offers_the_function():
    assert "policies.hold" in choices(("policies",)) and "policies.grammar" not in choices(("policies",))
    assert choices(("no_such_package",)) == []


def test_a_module_that_offers_no_make_is_refused():
    with pytest.raises(ModuleUnusableError, match=r"embodied\.loop offers no make\(\)"):
        open_robot("embodied.loop", {})
    with pytest.raises(ModuleUnusableError, match=r"offers no expert\(\)"):
        open_expert("tests.dummy_robot", open_robot("tests.dummy_robot", {}))


def test_a_module_that_lacks_what_it_imports_names_it(module):
    name = module("import a_package_nobody_has\ndef make(): ...\n")
    with pytest.raises(ModuleUnusableError, match="needs 'a_package_nobody_has', which is not installed"):
        open_robot(name, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def make(:\n", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
        ("from numpy import nothing_such\n", "cannot import name 'nothing_such'"),
    ],
)
def test_a_module_that_fails_when_it_is_imported_says_how(module, text, said):
    with pytest.raises(ModuleUnusableError, match=f"cannot be imported: .*{said}"):
        open_robot(module(text), {})


def test_what_is_made_must_be_what_is_asked_for():
    with pytest.raises(ModuleUnusableError, match=r"makes a HoldPolicy, which is no robot: it lacks \['close', 'spec'"):
        open_robot("policies.hold", {})
    with pytest.raises(ModuleUnusableError, match=r"makes a SafeRobot, which is no policy: it lacks \['act'\]"):
        open_policy("tests.toy_world", None, {})


@pytest.mark.parametrize(
    ("annotation", "fits", "unfit"),
    [
        ("int", [3], ["3", 3.5, True, None]),
        ("float", [3, 0.5], ["x", float("nan"), False]),
        ("float | None", [None, 0.5], ["x"]),
        ("bool", [True], [1, "yes"]),
        ("str", ["x"], [3]),
        ("Literal['pose', 'text']", ["pose"], ["pos", 3]),
        ("list[int]", [[1], "for make to judge"], []),
        ("OnlyForTypeCheckers", ["for make to judge"], []),
    ],
)
def test_an_option_is_of_the_type_that_make_declares(module, annotation, fits, unfit):
    name = module(f"from __future__ import annotations\nfrom typing import Literal\ndef make(x: {annotation}): ...\n")
    make = load_function("robot", name, "make", ())
    for value in fits:
        assert check_options(name, make, {"x": value}) == {"x": value}
    for value in unfit:
        with pytest.raises(InvalidOptionError, match=f"option 'x' of {name} takes .*, got"):
            check_options(name, make, {"x": value})


def test_an_unknown_option_is_refused_with_those_there_are():
    with pytest.raises(UnknownNameError, match=r"no option 'sise'; tests\.toy_world has \['bad_seed', 'size'\]"):
        open_robot("tests.toy_world", {"sise": 24})


def test_a_checkpoint_that_is_needed_or_missing_is_named(module, tmp_path):
    name = module(f"{POLICY}def make(checkpoint, *, horizon=6): return P()\n")
    with pytest.raises(ModuleUnusableError, match="needs --checkpoint DIR"):
        open_policy(name, None, {})
    with pytest.raises(ModuleUnusableError, match="no checkpoint at /no/such"):
        open_policy(name, Path("/no/such"), {})
    with pytest.raises(UnknownNameError, match=r"has \['horizon'\]"):
        open_policy(name, tmp_path, {"checkpoint": "x"})
    opened = open_policy(name, tmp_path, {})
    assert (opened.checkpoint, opened.options) == (tmp_path, {"horizon": 6})


def test_a_policys_shipped_checkpoint_is_known_to_the_report(module, tmp_path):
    name = module(f"from pathlib import Path\n{POLICY}def make(checkpoint=Path({str(tmp_path)!r})): return P()\n")
    assert open_policy(name, None, {}).checkpoint == tmp_path


def test_what_is_at_an_address_takes_no_options():
    with pytest.raises(ModuleUnusableError, match=r"takes no \['size'\]"):
        open_robot("127.0.0.1:1", {"size": 24})
    with pytest.raises(ModuleUnusableError, match="which is not at hand"):
        open_expert("127.0.0.1:1", open_robot("tests.toy_world", {}))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("size=224", ("size", 224)),
        ("x=0.5", ("x", 0.5)),
        ("fast=true", ("fast", True)),
        ("id=CartPole-v1", ("id", "CartPole-v1")),
        ("a=b=c", ("a", "b=c")),
        ("a=", ("a", "")),
    ],
)
def test_options_are_read_as_json_where_they_are(text, read):
    assert parse_option(text) == read


@pytest.mark.parametrize("text", ["size", "=3", "a b=3", ""])
def test_what_is_no_option_is_refused(text):
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_option(text)


def test_a_checkpoints_hash_sees_names_and_contents_and_not_where_it_lies(tmp_path):
    def checkpoint(where: str, name: str, content: bytes) -> str:
        (tmp_path / where / "sub").mkdir(parents=True)
        (tmp_path / where / "sub" / name).write_bytes(content)
        return checkpoint_sha256(tmp_path / where)

    first = checkpoint("a", "model.safetensors", b"weights")
    assert first == checkpoint("b", "model.safetensors", b"weights")
    others = {checkpoint("c", "other.safetensors", b"weights"), checkpoint("d", "model.safetensors", b"x")}
    assert len({first, *others}) == 3
    with pytest.raises(ModuleUnusableError, match="no checkpoint at"):
        checkpoint_sha256(tmp_path / "nowhere")

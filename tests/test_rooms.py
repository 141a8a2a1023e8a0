"""The rooms of the repository keep to their import table: envs -> embodied <- policies, and each its own libraries."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("embodied", "envs", "policies")

BRIDGE = {"grpc", "grpc_health", "grpc_reflection", "google"}
FILES = {"pyarrow", "cv2", "av", "tqdm", "matplotlib"}


@dataclass(frozen=True)
class Room:
    """What a room may import: other rooms, and libraries beside numpy and the standard library."""

    rooms: frozenset[str]
    libraries: frozenset[str] = frozenset()
    lazy: frozenset[str] = frozenset()  # either, inside a function only, so that importing the room stays cheap


def room(rooms: str, libraries: set[str] | None = None, lazy: str = "") -> Room:
    return Room(frozenset(rooms.split()), frozenset(libraries or set()), frozenset(lazy.split()))


# The longest prefix that fits is a module's room; what is directly in `embodied` is the core.
ROOMS = {
    "embodied": room("embodied", lazy="embodied.bridge embodied.recording"),
    "embodied.v1": room("embodied.v1", BRIDGE),
    "embodied.bridge": room("embodied embodied.v1 embodied.bridge", BRIDGE, lazy="cv2"),
    "embodied.bridge.authority": room("embodied embodied.bridge", {"cryptography"}),
    "embodied.recording": room("embodied embodied.recording", FILES),
    "embodied.cameras": room("embodied embodied.cameras", {"cv2"}),
    "embodied.hardware": room(
        "embodied embodied.hardware", {"serial", "scservo_sdk", "dynamixel_sdk"}, lazy="embodied.cameras"
    ),
    "embodied.robots": room("embodied embodied.hardware"),
    "embodied.teleop": room("embodied embodied.recording embodied.hardware embodied.teleop"),
    "embodied.__main__": room("embodied.cli"),
    "embodied.cli": room(
        "embodied embodied.bridge embodied.recording embodied.hardware embodied.teleop embodied.cli",
        BRIDGE | {"tqdm"},
        lazy="embodied.bridge.authority embodied.cameras serial",
    ),
    "envs": room("embodied envs", {"mujoco", "gymnasium", "mink"}, lazy="metaworld gym_pusht gym_aloha dm_control"),
    "policies": room(
        "embodied embodied.recording policies",
        {"torch", "transformers", "tokenizers", "safetensors", "scipy", "tqdm"},
        lazy="peft bitsandbytes",
    ),
}


@dataclass(frozen=True)
class Import:
    """One import statement: the module it names, and whether importing the importer runs it."""

    importer: str
    module: str
    at_import: bool
    line: int


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(name: str) -> Iterator[Import]:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    yield from _walk(name, tree, at_import=True)


def _walk(name: str, node: ast.AST, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(name, alias.name, at_import, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{name}:{child.lineno}: relative import"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield Import(name, inner if inner in MODULES else str(child.module), at_import, child.lineno)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _walk(name, child, at_import and not is_function and not for_types)


IMPORTS = [found for name in MODULES for found in imports_of(name)]


def room_of(module: str) -> str:
    return max((name for name in ROOMS if f"{module}.".startswith(f"{name}.")), key=len)


def offences() -> Iterator[str]:
    for found in IMPORTS:
        place = f"{found.importer}:{found.line} imports {found.module}"
        here, top = ROOMS[room_of(found.importer)], found.module.partition(".")[0]
        if top in PACKAGES:
            there = room_of(found.module)
            if there not in here.rooms | {room_of(found.importer)} and (found.at_import or there not in here.lazy):
                yield f"{place}, and {room_of(found.importer)} may not import {there}"
        elif top not in sys.stdlib_module_names | {"numpy"} | here.libraries and (
            found.at_import or top not in here.lazy
        ):
            yield f"{place}, and {room_of(found.importer)} may not import {top}"


def test_every_import_is_in_the_table():
    assert list(offences()) == []


def test_no_module_imports_itself_through_others():
    graph = {name: {i.module for i in IMPORTS if i.importer == name and i.at_import} & set(MODULES) for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_robots_are_strangers_to_each_other():
    robots = [
        i for i in IMPORTS if i.importer.startswith("embodied.robots.") and i.module.startswith("embodied.robots")
    ]
    assert [f"{i.importer}:{i.line}" for i in robots] == []


PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
# A module's name is the registry: what the user names on the command line, or a folder holds; nothing off the wire.
IMPORTERS = {"embodied.modules", "embodied.cli", "envs.tasks"}


def test_nothing_is_pickled():
    assert [f"{i.importer}:{i.line}" for i in IMPORTS if i.module.partition(".")[0] in PICKLES] == []


def dangers(name: str, tree: ast.AST) -> Iterator[str]:
    """Yield what could run or unpickle what it is given: eval and its kin, loaders that unpickle, a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (danger := danger_of(name, node)):
            yield f"{name}:{node.lineno} {danger}"
        elif isinstance(node, ast.Name) and node.id in RUNNERS and isinstance(node.ctx, ast.Load):
            yield f"{name}:{node.lineno} {node.id}"  # also where it is only handed on
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"builtins", "__builtins__"}:
            yield f"{name}:{node.lineno} {ast.unparse(node)}"


def danger_of(name: str, call: ast.Call) -> str:
    """Return what is dangerous about a call, empty if nothing."""
    called = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    last = called.rpartition(".")[2]
    if called == "torch.load" and given.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        return f"{called} with allow_pickle"
    if called.startswith("yaml.") and last in {"load", "load_all", "unsafe_load", "full_load"}:
        return f"{called}, which makes any object"
    if given.get("shell", "False") != "False" or called in {"os.system", "os.popen", "subprocess.getoutput"}:
        return f"{called} runs a shell"
    if last == "import_module" and not isinstance(call.args[0], ast.Constant) and name not in IMPORTERS:
        return f"{called} of what it is given"
    return f"{called} unpickles" if last in {"read_pickle", "to_pickle"} else ""


def test_nothing_runs_what_it_is_given():
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    assert [danger for name, tree in trees.items() for danger in dangers(name, tree)] == []
    runners = [i for i in IMPORTS if i.module in {"runpy", "code", "codeop"}]
    assert [f"{i.importer}:{i.line}" for i in runners] == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "run = eval",
        "builtins.exec(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "importlib.import_module(name)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "pd.read_pickle(path)",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert len(list(dangers("some.module", ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source", ["model.eval()", "re.compile('a')", "torch.load(path, weights_only=True)", "np.load(path)"]
)
def test_the_search_leaves_alone_what_is_harmless(source):
    assert list(dangers("some.module", ast.parse(source))) == []


def test_the_schema_folder_is_no_package():
    # PyPI's proto-plus owns `import proto`.
    assert list((ROOT / "proto").rglob("*.py")) == []


def test_a_robots_own_computer_needs_numpy_and_grpc_alone():
    light = [n for n in MODULES if room_of(n) in {"embodied", "embodied.v1", "embodied.bridge"}]
    light += ["embodied.cli", "embodied.cli.host", "embodied.cli.serve", "embodied.cli.doctor"]
    absent = ["torch", "transformers", "mujoco", "gymnasium", "mink", *FILES]
    program = (
        f"import sys, importlib\nsys.modules |= dict.fromkeys({absent})\nfor n in {light}: importlib.import_module(n)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", [n for n in MODULES if room_of(n) != "embodied.v1"])
def test_a_file_says_in_its_first_line_what_it_is(name):
    first = MODULES[name].read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith('"""'), f"{MODULES[name]} begins with {first!r}"
    assert first.rstrip('"').endswith("."), f"{MODULES[name]}: the first line is one sentence: {first!r}"


@pytest.mark.parametrize("bench", sorted((ROOT / "tests" / "bench").rglob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_imports_what_there_is(bench):
    """Benchmarks run rarely, some in environments of their own: what they import may have been renamed meanwhile."""
    for node in ast.walk(ast.parse(bench.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in PACKAGES:
            missing = [name.name for name in node.names if not there_is(str(node.module), name.name)]
            assert not missing, f"{node.module} has no {missing}"


def there_is(module: str, name: str) -> bool:
    return f"{module}.{name}" in MODULES or hasattr(importlib.import_module(module), name)

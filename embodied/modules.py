"""Opens a robot or a policy by its dotted module name or its address: the module name is the registry."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from embodied.errors import EmbodiedError, UnknownNameError
from embodied.origin import Origin, versions_here, with_defaults
from embodied.safety import Servo, bare, safe
from embodied.types import Policy, Robot

if TYPE_CHECKING:
    from embodied.bridge.connection import Connection  # what is local needs no grpc

ROBOT_PACKAGES = ("envs", "embodied.robots")
POLICY_PACKAGES = ("policies",)

Options = Mapping[str, Any]


class ModuleUnusableError(EmbodiedError):
    """A module that is there but cannot be used: something it needs is missing, or it offers no make()."""


class InvalidOptionError(EmbodiedError):
    """An option of a type that the module's make() does not take."""


def is_address(name: str) -> bool:
    """Say whether name is an address (host:port, unix:/path) rather than a dotted module name."""
    return ":" in name


def open_robot(name: str, options: Options, connection: Connection | None = None) -> Robot:
    """Make the robot of a module, under its limits, or connect to the one at an address, which its server limits.

    Raise UnknownNameError for an unknown module or option, ModuleUnusableError if the module cannot be imported,
    UnfitLimitsError if it declares limits that cannot be kept, and ProtocolError if nobody answers at the address.
    """
    if is_address(name):
        from embodied.bridge.connection import PLAIN
        from embodied.bridge.robot_client import RemoteRobot

        _refuse_options(name, options)
        how = connection or PLAIN
        return RemoteRobot(
            name, credentials=how.credentials, takeover=how.takeover, max_age_s=how.max_age_s, frames=how.frames
        )
    make = load_function("robot", name, "make", ROBOT_PACKAGES)
    robot = make(**check_options(name, make, options))
    if not isinstance(robot, Robot | Servo):
        raise ModuleUnusableError(f"{name} makes a {type(robot).__name__}, which is no robot: {_lacks(robot, Robot)}")
    return safe(robot)


def open_expert(name: str, robot: Robot) -> Policy:
    """Make the scripted expert of a robot's module; it sees the simulator's truth and needs the local robot."""
    if is_address(name):
        raise ModuleUnusableError(f"an expert reads the simulator itself, which is not at hand behind {name}")
    return cast(Policy, load_function("robot", name, "expert", ROBOT_PACKAGES)(bare(robot)))


@dataclass(frozen=True)
class OpenPolicy:
    """A policy, with what it was really made from: defaults filled in, for the report."""

    policy: Policy
    checkpoint: Path | None
    options: Options
    origin: Origin | None = None  # of one at an address: what its server tells

    def close(self) -> None:
        """Let go of a connection; a policy that is here holds nothing."""
        if callable(close := getattr(self.policy, "close", None)):
            close()


def open_policy(
    name: str, checkpoint: Path | None, options: Options, connection: Connection | None = None
) -> OpenPolicy:
    """Make the policy of a module from its checkpoint, or connect to the one at an address; raise as open_robot."""
    if is_address(name):
        from embodied.bridge.connection import PLAIN
        from embodied.bridge.policy_client import RemotePolicy

        _refuse_options(name, options if checkpoint is None else {**options, "checkpoint": checkpoint})
        how = connection or PLAIN
        remote = RemotePolicy(name, credentials=how.credentials, within_s=how.within_s, frames=how.frames)
        return OpenPolicy(remote, None, {}, remote.description.origin)
    if checkpoint is not None and not checkpoint.exists():  # told before the seconds that importing torch takes
        raise ModuleUnusableError(f"no checkpoint at {checkpoint}")
    make = load_function("policy", name, "make", POLICY_PACKAGES)
    options = check_options(name, make, options, reserved={"checkpoint"})
    defaults = {p.name: p.default for p in inspect.signature(make).parameters.values()}
    shipped = defaults.pop("checkpoint", None)
    if checkpoint is None:
        if shipped is inspect.Parameter.empty:
            raise ModuleUnusableError(f"{name} needs --checkpoint DIR")
        checkpoint = shipped if isinstance(shipped, Path) else None
    policy = make(**options) if checkpoint is None else make(checkpoint, **options)
    if not isinstance(policy, Policy):
        raise ModuleUnusableError(
            f"{name} makes a {type(policy).__name__}, which is no policy: {_lacks(policy, Policy)}"
        )
    return OpenPolicy(policy, checkpoint, with_defaults(make, options, leave=("checkpoint",)))


def robot_origin(name: str, options: Options) -> Origin:
    """Return what a report says of a robot that was made of a module here."""
    make = load_function("robot", name, "make", ROBOT_PACKAGES)
    return Origin(name, with_defaults(make, options), versions=versions_here())


def policy_origin(name: str, checkpoint: Path | None, options: Options) -> Origin:
    """Return what a report says of a policy that was opened here: see OpenPolicy."""
    weights = None if checkpoint is None else checkpoint_sha256(checkpoint)
    return Origin(name, options, weights, versions_here())


def load_function(kind: str, name: str, function: str, packages: Sequence[str]) -> Callable[..., Any]:
    """Import the module called name and return its function; packages are where the choices in an error come from."""
    found = getattr(_load(kind, name, packages), function, None)
    if not callable(found):
        raise ModuleUnusableError(f"{name} offers no {function}(); {kind} modules: {choices(packages, function)}")
    return cast(Callable[..., Any], found)


def load_arm(name: str) -> Any:  # noqa: ANN401  an ArmModel, whose room the core does not know
    """Import the robot module called name and return its ARM; raise ModuleUnusableError where it offers none."""
    if (arm := getattr(_load("robot", name, ROBOT_PACKAGES), "ARM", None)) is None:
        raise ModuleUnusableError(f"{name} offers no ARM: it is no arm of servos on a bus")
    return arm


def declares(name: str, function: str, parameter: str) -> bool:
    """Say whether a module's function takes a parameter, by reading it: importing may need what is not here."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # opening it says what is wrong with it
        return False
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return False
    if (found := _definition(Path(spec.origin), function)) is None:
        return False
    return parameter in [a.arg for a in (*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs)]


def choices(packages: Sequence[str], function: str = "make") -> list[str]:
    """List the modules in packages that offer function, by reading them: importing all would need every extra."""
    found = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [f"{package}.{path.stem}" for path in Path(folder).glob("*.py") if _defines(path, function)]
    return sorted(set(found))


def check_options(name: str, make: Callable[..., Any], options: Options, *, reserved: Iterable[str] = ()) -> Options:
    """Return options if make takes them all and each is of the type it declares.

    Raise UnknownNameError, with the options there are, or InvalidOptionError, with the type that one takes.
    """
    parameters = inspect.signature(make).parameters.values()
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    names = [p.name for p in parameters if p.name not in set(reserved)]
    hints = _hints(make)
    for option, value in options.items():
        if option not in names and not takes_any:
            raise UnknownNameError("option", option, name, names)
        if not _fits(value, hint := hints.get(option, Any)):
            raise InvalidOptionError(f"option {option!r} of {name} takes {_words(hint)}, got {value!r}")
    return options


def parse_option(text: str) -> tuple[str, Any]:
    """Read `size=224` as ("size", 224): the value is JSON where it parses as such, else the text itself."""
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier()):
        raise ValueError(f"an option is NAME=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def checkpoint_sha256(checkpoint: Path) -> str:
    """Hash every file of a checkpoint, with its name, so that two reports can tell whether they judged the same one."""
    if not checkpoint.exists():
        raise ModuleUnusableError(f"no checkpoint at {checkpoint}")
    root, found = (checkpoint, checkpoint.rglob("*")) if checkpoint.is_dir() else (checkpoint.parent, [checkpoint])
    digest = hashlib.sha256()
    for path in sorted(p for p in found if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _load(kind: str, name: str, packages: Sequence[str]) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UnknownNameError(f"{kind} module", name, "this installation", choices(packages))
    if "" not in sys.path and (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(
            0, here
        )  # as `python -m` does: the console script alone would not find a module beside the user
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ModuleUnusableError(
                f"{name} needs {error.name!r}, which is not installed here; embodied doctor names the command"
            ) from error
        raise UnknownNameError(f"{kind} module", name, "this installation", choices(packages)) from error
    except Exception as error:  # a module runs what it likes when it is imported
        raise ModuleUnusableError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(make)
    except NameError:  # a name imported for type checkers alone
        return {}


def _lacks(made: object, role: type) -> str:
    return f"it lacks {[m for m in sorted(vars(role)) if not (m.startswith('_') or hasattr(made, m))]}"


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401  any annotation
    """Say whether a value read from JSON is of an annotated type; what JSON cannot spell is for make to judge."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool) and math.isfinite(value)
    return hint not in (bool, str, NoneType) or isinstance(value, hint)


def _words(hint: Any) -> str:  # noqa: ANN401  any annotation
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _defines(path: Path, function: str) -> bool:
    return _definition(path, function) is not None


def _definition(path: Path, function: str) -> ast.FunctionDef | None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return node
    return None


def _refuse_options(address: str, options: Options) -> None:
    if options:
        raise ModuleUnusableError(f"{address} is already running; it takes no {sorted(options)} from here")

"""Prints what is in a dataset, and what is wrong with it, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embodied.report import table

if TYPE_CHECKING:
    from embodied.recording.findings import Finding

FREQUENT = 12  # instructions and texts that are printed unless all are asked for
WIDEST = 100  # characters of a value of collection.json


def print_dataset(found: Mapping[str, Any], *, everything: bool) -> None:
    """Print what inspection.describe returned."""
    episodes, rows = found["episodes"], found["episodes"]["rows"]
    print(f"{found['path']}: robot {found['robot']}, {_size(found['bytes'])}")
    print(f"{episodes['count']} episodes, {_rate(episodes['successes'], episodes['count'])} successes")
    rate = f"{found['control_hz']:g} Hz"
    if found["fps"] != found["control_hz"]:
        rate += f" (info.json: fps {found['fps']})"
    print(f"{found['rows']} rows, {_time(found['duration_s'])} at {rate}")
    lengths = [f"{rows[name]:g} rows ({rows[name] / found['control_hz']:.1f} s)" for name in ("min", "median", "max")]
    print(f"lengths: shortest {lengths[0]}, median {lengths[1]}, longest {lengths[2]}")
    _section("tasks", ["task", "instructions", "episodes", "success", "rows"], map(_task, found["tasks"]))
    said = found["instructions"]
    shown = said if everything else said[:FREQUENT]
    _section("instructions", ["instruction", "episodes", "success", "rows"], map(_instruction, shown))
    _more(len(said) - len(shown))
    _section("cameras", ["camera", "height x width", "vertical view", "stored as"], map(_camera, found["cameras"]))
    _fields(found)
    _labels(found)
    texts = found["texts"]
    shown = texts if everything else texts[:FREQUENT]
    _section("text actions", ["text", "rows"], ([text["text"], text["rows"]] for text in shown))
    _more(len(texts) - len(shown))
    if found["skills"]:
        print(f"\nskills: {', '.join(found['skills'])}")
    _flags(found)
    print("\nhow it was made (meta/collection.json)")
    for line in _origin(found["collection"]):
        print(f"  {line}")


def print_episode(found: Mapping[str, Any]) -> None:
    """Print what inspection.describe_episode returned."""
    outcome = "success" if found["success"] else "no success"
    print(f"{found['path']} episode {found['episode']}: {found['task']}, seed {found['seed']}, {outcome}")
    print(f"instruction: {found['instruction']}")
    first, last = found["dataset_rows"]
    print(f"{found['rows']} rows ({found['duration_s']:.1f} s), rows {first} to {last} of the dataset")
    if (origin := found["came_from"]) is not None:
        print(f"came from episode {origin['episode']} of {origin['path']}")
    _fields(found)
    _labels(found)
    texts = ([text["text"], f"{text['first_row']} to {text['last_row']}"] for text in found["texts"])
    _section("text actions", ["text", "rows"], texts)
    _flags(found)


def print_findings(found: Sequence[Finding], *, most: int) -> None:
    """Print findings, a line each and at most so many of a kind, and count them."""
    printed: Counter[tuple[str, str]] = Counter()
    for finding in found:
        kind = (finding.level, finding.check)
        printed[kind] += 1
        if printed[kind] <= most:
            print(finding)
    for (level, check), count in printed.items():
        if count > most:
            print(f"{level:7}  {check:10}  and {count - most} more; --all prints them")
    errors = sum(finding.level == "error" for finding in found)
    warnings = len(found) - errors
    print(f"{_plural(errors, 'error')}, {_plural(warnings, 'warning')}" if found else "nothing is wrong")


def _section(title: str, header: Sequence[str], rows: Any) -> None:  # noqa: ANN401  an iterable of rows
    if listed := list(rows):
        print(f"\n{title}")
        print("\n".join(table(header, listed)))


def _more(count: int) -> None:
    if count > 0:
        print(f"and {count} more; --all prints them")


def _task(task: Mapping[str, Any]) -> list[object]:
    success = _rate(task["successes"], task["episodes"])
    return [task["name"], task["instructions"], task["episodes"], success, task["rows"]]


def _instruction(said: Mapping[str, Any]) -> list[object]:
    return [said["name"], said["episodes"], _rate(said["successes"], said["episodes"]), said["rows"]]


def _camera(camera: Mapping[str, Any]) -> list[object]:
    size = f"{camera['height']} x {camera['width']}"
    return [camera["name"], size, f"{camera['fovy_deg']:g} deg", camera["stored_as"]]


def _fields(found: Mapping[str, Any]) -> None:
    header = ["field", "unit", "declared", "seen", "mean", "std", "outside"]
    for group in ("state", "action"):
        _section(group, header, map(_field, found[group]))


def _field(field: Mapping[str, Any]) -> list[object]:
    unit = field["unit"] + (" (delta)" if field["mode"] == "delta" else "")
    declared = f"{field['low']:.4g} to {field['high']:.4g}"
    if field["mean"] is None:
        return [field["name"], unit, declared, "nothing finite", "", "", f"{field['outside']:.1%}"]
    seen = f"{field['min']:.4g} to {field['max']:.4g}"
    outside = f"{field['outside']:.2%}" if field["outside"] else "none"
    return [field["name"], unit, declared, seen, f"{field['mean']:.4g}", f"{field['std']:.3g}", outside]


def _labels(found: Mapping[str, Any]) -> None:
    rows = ([of["name"], of["size"], of["rows"], _vector(of["min"]), _vector(of["max"])] for of in found["labels"])
    _section("labels", ["label", "numbers", "rows that have it", "min", "max"], rows)


def _vector(values: Sequence[float] | None) -> str:
    return "" if values is None else ", ".join(f"{value:.3g}" for value in values)


def _flags(found: Mapping[str, Any]) -> None:
    flags = found["flags"]
    print(
        f"\nrows in which something else was carried out than was recorded: {flags['perturbed']}; "
        f"in which an operator acted for a policy: {flags['intervention']}; marked: {flags['marker']}; "
        f"random scenes: {flags['scene']}"
    )


def _origin(collection: Mapping[str, Any]) -> list[str]:
    """Return collection.json in short lines: its nested parts are in the file."""
    lines = []
    for name, value in collection.items():
        if name == "command":
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        elif name == "sources" and isinstance(value, list):
            text = ", ".join(f"{of['path']} ({of['episodes']} episodes)" for of in value)
        elif isinstance(value, Mapping) and not any(isinstance(of, Mapping | list) for of in value.values()):
            text = ", ".join(f"{key} {of}" for key, of in value.items())
        elif isinstance(value, Mapping):
            text = ", ".join(value)
        else:
            text = str(value)
        lines.append(f"{name}: {text if len(text) <= WIDEST or name == 'sources' else text[: WIDEST - 3] + '...'}")
    return lines or ["nothing is told"]


def _rate(successes: int, episodes: int) -> str:
    return f"{successes} of {episodes}" + (f" ({successes / episodes:.0%})" if episodes > 1 else "")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.1f} s" if minutes < 2 else f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")

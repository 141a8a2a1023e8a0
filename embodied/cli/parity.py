"""`embodied replay --compare`: two replays joint by joint, as a table, a file and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from embodied.errors import EmbodiedError
from embodied.parity import Motion, Parity, compare
from embodied.report import table
from embodied.types import Field, RobotSpec

MARKER = "replay.json"
HEADER = ("field", "RMSE", "p95", "max", "unit", "later by ms", "RMSE without that")


def compare_replays(folders: Sequence[Path], out: Path | None, *, force: bool) -> int:
    """Compare two replays, or one with what was recorded; print the figures, and write them to out with a plot."""
    if len(folders) > 2:
        raise EmbodiedError(f"--compare takes two replays, or one, and got {len(folders)}")
    contents = [_read(path) for path in folders]
    names = [str(path) for path in folders]
    fields = _fields(contents[0])
    if len(contents) == 1:
        first, second = _motion(contents[0], "recorded", "recorded"), _motion(contents[0], "measured", names[0])
    else:
        if contents[0]["action"] != contents[1]["action"]:
            raise EmbodiedError(f"{names[0]} and {names[1]} played other actions; compare replays of one episode")
        first, second = (_motion(c, "measured", name) for c, name in zip(contents, names, strict=True))
    parities = compare(first, second, fields)
    print(f"{second.name} against {first.name}")
    print("\n".join(table(HEADER, [_row(parity) for parity in parities])))
    if out is not None:
        told = {"first": first.name, "second": second.name, "fields": {p.field: p.to_dict() for p in parities}}
        _write(out, told, first, second, fields, force=force)
    return 0


def _row(parity: Parity) -> list[str]:
    """Return the figures of a field as they are printed: angles in degrees."""
    unit, scale = ("deg", float(np.degrees(1.0))) if parity.unit == "rad" else (parity.unit, 1.0)
    lag = "" if parity.lag_s is None else f"{1e3 * parity.lag_s:.0f}"
    rest = "" if parity.rmse_without_lag is None else f"{scale * parity.rmse_without_lag:.3f}"
    return [parity.field, *(f"{scale * e:.3f}" for e in (parity.rmse, parity.p95, parity.max)), unit, lag, rest]


def _write(
    path: Path, told: dict[str, Any], first: Motion, second: Motion, fields: tuple[Field, ...], *, force: bool
) -> None:
    """Write the figures to path, and the plot beside it."""
    if not find_spec("matplotlib"):
        raise EmbodiedError("the plot needs matplotlib: pip install 'embodied-runtime[record]'")
    if path.exists() and not (force and path.is_file()):
        raise EmbodiedError(
            f"{path} is there already; choose another --out" + ("" if path.is_dir() else ", or --force")
        )
    from embodied.recording.parity_plot import plot_parity

    path.parent.mkdir(parents=True, exist_ok=True)
    plot_parity(path.with_suffix(".png"), first, second, fields)
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path} and {path.with_suffix('.png')}")


def _read(folder: Path) -> dict[str, Any]:
    file = folder / MARKER
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        (
            _fields(content),
            _motion(content, "recorded", ""),
            _motion(content, "measured", ""),
            np.array(content["action"], np.float64),
        )
    except OSError as error:
        raise EmbodiedError(f"{folder} holds no replay: {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EmbodiedError(f"{file} is not what embodied replay writes: {error}") from error
    return content


def _fields(content: dict[str, Any]) -> tuple[Field, ...]:
    return RobotSpec.from_dict(content["spec"]).state


def _motion(content: dict[str, Any], which: str, name: str) -> Motion:
    return Motion(name, np.array(content[which]["time_s"], np.float64), np.array(content[which]["state"], np.float64))

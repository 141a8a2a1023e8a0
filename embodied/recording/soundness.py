"""What makes a dataset unfit to learn from, whatever is learnt: told with the file and the row where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embodied.recording import format as layout
from embodied.recording.foreign import names_of

if TYPE_CHECKING:
    from embodied.recording.reader import DatasetReader

LATE = 0.5  # of a period: a time this far from its row's belongs to another row
OUTSIDE = 0.01  # of the range that the statistics give, by which a value may lie outside it


def require_sound(reader: DatasetReader) -> None:
    """Raise DatasetError for the first of: names or a rate of another robot, wrong times, numbers that are not finite.

    The statistics of state and action must be those of the columns: others would scale them wrongly.
    """
    _require_one_robot(reader)
    _require_finite(reader)
    _require_times(reader)
    _require_statistics(reader)
    _require_range(reader)


def _require_one_robot(reader: DatasetReader) -> None:
    features, spec, file = reader.info["features"], reader.spec, reader.path / layout.SPEC
    if not file.exists():
        return
    for key, fields in ((layout.STATE, spec.state), (layout.ACTION, spec.action)):
        if key in features and (ours := [f.name for f in fields]) != (said := names_of(key, features[key])):
            raise layout.DatasetError(file, f"{key} is {ours}, and meta/info.json has {said}")
    if abs(spec.control_hz - float(reader.info["fps"])) > 1e-3 * spec.control_hz:
        raise layout.DatasetError(
            file, f"control_hz is {spec.control_hz:g}, and meta/info.json has fps {reader.info['fps']}"
        )


def _require_finite(reader: DatasetReader) -> None:
    for key, values, fields in _columns(reader):
        if (wrong := ~np.isfinite(values)).any():
            row, at = (int(i) for i in np.argwhere(wrong)[0])
            name = fields[at].name
            raise layout.DatasetError(
                reader.file_of(row), f"{key!r} is {values[row, at]} at {name!r} in {reader.told(row)}"
            )


def _require_times(reader: DatasetReader) -> None:
    """Raise where most rows are not as far apart as fps says; jitter of measured times is none of that."""
    hz = float(reader.info["fps"])
    inner = np.flatnonzero(reader.frame_index[1:] > 0) + 1
    steps_s = np.diff(reader.timestamp.astype(np.float64))[inner - 1]
    wrong = np.abs(steps_s * hz - 1) > LATE
    if 2 * wrong.sum() > len(inner):
        row = int(inner[np.argmax(wrong)])
        raise layout.DatasetError(
            reader.file_of(row),
            f"rows are {float(np.median(steps_s)):.4f} s apart, and fps {hz:g} in meta/info.json says {1 / hz:.4f}; "
            f"the first is {reader.told(row)}",
        )


def _require_statistics(reader: DatasetReader) -> None:
    for key, rows, _ in _columns(reader):
        size = rows.shape[1]
        for name, values in reader.stats.get(key, {}).items():
            if name != "count" and (found := np.size(values)) != size:
                raise layout.DatasetError(
                    reader.path / layout.STATS,
                    f"{name} of {key!r} has {found} numbers and the column {size}: are these another robot's? "
                    "Without the file they are computed",
                )


def _require_range(reader: DatasetReader) -> None:
    for key, values, fields in _columns(reader):
        if key not in reader.stats:
            continue
        low, high = (np.asarray(reader.stats[key][name], np.float64).reshape(-1) for name in ("min", "max"))
        slack = OUTSIDE * np.maximum(high - low, 1e-3)
        if (wrong := (values < low - slack) | (values > high + slack)).any():
            row, at = (int(i) for i in np.argwhere(wrong)[0])
            raise layout.DatasetError(
                reader.path / layout.STATS,
                f"{key!r} is {values[row, at]:g} at {fields[at].name!r} in {reader.told(row)} of {reader.file_of(row)}"
                f", and the statistics say {low[at]:g} to {high[at]:g}: are these another robot's? "
                "Without the file they are computed",
            )


def _columns(reader: DatasetReader) -> tuple[tuple[str, Any, Any], ...]:
    return (layout.STATE, reader.state, reader.spec.state), (layout.ACTION, reader.action, reader.spec.action)

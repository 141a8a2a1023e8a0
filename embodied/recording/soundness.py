"""What makes a dataset unfit to learn from, whatever is learnt: told with the file and the row where it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied.recording import format as layout
from embodied.recording.foreign import camera_keys, names_of
from embodied.types import Field, RobotSpec

if TYPE_CHECKING:
    from embodied.recording.reader import DatasetReader

LATE = 0.5  # of a period: a time this far from its row's belongs to another row
OUTSIDE = 0.01  # of a range, by which a value may lie outside it
RIGHT_SPEC = "put the right robot's spec beside the data"


def require_sound(reader: DatasetReader, spec: RobotSpec | None = None) -> None:
    """Raise DatasetError for the first of: names or a rate of another robot, wrong times, numbers that are not finite.

    The statistics of state and action must be those of the columns: others would scale them wrongly. And every number
    must be in the range of its field in spec, by default the dataset's own: of others there would be no telling.
    """
    _require_one_robot(reader)
    _require_finite(reader)
    _require_times(reader)
    _require_statistics(reader)
    for (key, values, fields), group in zip(_columns(reader), ("state", "action"), strict=True):
        wanted = {field.name: field for field in getattr(spec or reader.spec, group)}
        _require_range(reader, key, values, [wanted.get(field.name, field) for field in fields])


def misfits(reader: DatasetReader) -> Iterator[str]:
    """Say in what meta/robot_spec.json is another dataset's: numbers a row that it does not name, cameras not there."""
    for key, values, fields in _columns(reader):
        if (found := values.shape[1]) != len(fields):
            yield f"{key} has {found} numbers a row, and {layout.SPEC} names {len(fields)}"
    there = camera_keys(reader.info["features"])
    if missing := [camera.name for camera in reader.spec.cameras if camera.name not in there]:
        yield f"{layout.SPEC} names the cameras {missing}, and {layout.INFO} has {list(there)}"


def require_fit(reader: DatasetReader) -> None:
    """Raise DatasetError where the spec is another dataset's: nothing could be said of a field or a camera."""
    for misfit in misfits(reader):
        raise layout.DatasetError(reader.path / layout.SPEC, f"{misfit}: {RIGHT_SPEC}")


def _require_range(reader: DatasetReader, key: str, values: NDArray[np.float32], fields: Sequence[Field]) -> None:
    """Raise DatasetError for the first of values (n, fields) that lies outside of its field's range; NaN is let be.

    A measured joint comes to stand slightly past its end, so 1 % of the range is let be too.
    """
    low, high = (np.array([getattr(field, end) for field in fields], np.float64) for end in ("low", "high"))
    if outside := _first_outside(values, low, high):
        row, at = outside
        raise layout.DatasetError(
            reader.file_of(row),
            f"{key!r} is {values[row, at]:g} at {fields[at].name!r} in {reader.told(row)}, and its range is "
            f"{low[at]:g} to {high[at]:g}: see whether the unit or the range is wrong, or drop the episode",
        )


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
    for key, rows, fields in _columns(reader):
        if key in reader.stats:
            low, high = _ends(reader, key, rows.shape[1])
            if outside := _first_outside(rows, low, high):
                row, at = outside
                raise _odd(
                    reader,
                    f"{key!r} is {rows[row, at]:g} at {fields[at].name!r} in {reader.told(row)} of "
                    f"{reader.file_of(row)}, and the statistics say {low[at]:g} to {high[at]:g}",
                )


def _ends(reader: DatasetReader, key: str, size: int) -> list[NDArray[np.float64]]:
    """Return the least and the greatest value of a column as its statistics have them, all of which are size long."""
    stored = reader.stats[key]
    found = stored if isinstance(stored, dict) else {}
    if missing := [name for name in ("min", "max") if name not in found]:
        raise _odd(reader, f"{key!r} has no {' and no '.join(missing)}")
    try:
        numbers = {name: np.asarray(values, np.float64).reshape(-1) for name, values in found.items()}
    except (TypeError, ValueError) as error:
        raise _odd(reader, f"{key!r} has what is no list of numbers ({error})") from error
    for name, values in numbers.items():
        if name != "count" and len(values) != size:
            raise _odd(reader, f"{name} of {key!r} has {len(values)} numbers and the column {size}")
    return [numbers["min"], numbers["max"]]


def _odd(reader: DatasetReader, reason: str) -> layout.DatasetError:
    hint = "are these another robot's? Without the file they are computed"
    return layout.DatasetError(reader.path / layout.STATS, f"{reason}: {hint}")


def _first_outside(
    values: NDArray[np.float32], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[int, int] | None:
    """Return the first row and column whose value lies outside of low to high by more than OUTSIDE of that."""
    slack = OUTSIDE * np.maximum(high - low, 1e-3)
    wrong = np.argwhere((values < low - slack) | (values > high + slack))
    return (int(wrong[0, 0]), int(wrong[0, 1])) if len(wrong) else None


def _columns(reader: DatasetReader) -> tuple[tuple[str, Any, Any], ...]:
    return (layout.STATE, reader.state, reader.spec.state), (layout.ACTION, reader.action, reader.spec.action)

"""The robot of a dataset that some other program wrote: its spec as far as meta/info.json and its rows tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.recording import format as layout
from embodied.types import Camera, Field, RobotSpec

MARGIN = 0.05  # of the range from the least to the greatest value seen, on either side
SMALLEST = 1e-3  # margin, of a field that never changes
FOVY_UNKNOWN = 0.0
DERIVED = "derived"  # the version of a robot that nobody declared: its ranges are those of the rows there happen to be


def camera_keys(features: Mapping[str, Any]) -> dict[str, str]:
    """Return camera -> feature for the features that are pictures, in info.json's order."""
    keys = [key for key, feature in features.items() if feature["dtype"] in layout.VISUAL]
    short = [key.removeprefix(layout.IMAGE_PREFIX).removeprefix("observation.") for key in keys]
    return dict(zip(short if len(set(short)) == len(short) else keys, keys, strict=True))


def derive_spec(info: Mapping[str, Any], state: NDArray[np.float32], action: NDArray[np.float32]) -> RobotSpec:
    """Return the spec that a dataset without meta/robot_spec.json implies; state and action are its rows (n, fields).

    Fields take their names from info.json, and their ranges from the least and the greatest value of the rows, widened
    by MARGIN on either side: outliers stay in range, which quantiles would leave out. Units, limits, the cameras'
    field of view and the version are unknown.
    """
    features = info["features"]
    cameras = [Camera(name, *size_of(features[key]), FOVY_UNKNOWN) for name, key in camera_keys(features).items()]
    return RobotSpec(
        name=info.get("robot_type") or "unknown",
        control_hz=float(info["fps"]),
        cameras=tuple(cameras),
        state=_fields(layout.STATE, features, state),
        action=_fields(layout.ACTION, features, action),
        version=DERIVED,
    )


def widened(spec: RobotSpec, other: RobotSpec) -> RobotSpec:
    """Return spec with ranges that hold those of other too, where both are derived; else as it is, for it was declared.

    Two recordings of one robot so differ in nothing that their rows alone tell.
    """
    if not spec.version == other.version == DERIVED:
        return spec
    return replace(spec, state=_wider(spec.state, other.state), action=_wider(spec.action, other.action))


def names_of(key: str, feature: Mapping[str, Any]) -> list[str]:
    """Return a name for each number of a feature: info.json's, a list or a dict of lists, or else numbered ones."""
    size = int(np.prod(feature["shape"], dtype=np.int64))
    found = _flat(feature.get("names"))
    return found if len(found) == size == len(set(found)) else [f"{key.rpartition('.')[2]}_{i}" for i in range(size)]


def size_of(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Return (height, width) of a camera's feature, whose channels may come first or last."""
    shape, names = list(feature["shape"]), [str(name) for name in feature.get("names") or ()]
    if len(names) == len(shape) and {"height", "width"} <= set(names):
        return int(shape[names.index("height")]), int(shape[names.index("width")])
    height, width = shape[1:] if len(shape) == 3 and shape[0] <= 4 < shape[2] else shape[:2]
    return int(height), int(width)


def _flat(names: Any) -> list[str]:  # noqa: ANN401  a list, a dict, or nothing
    if isinstance(names, Mapping):
        inner = [_flat(value) for value in names.values()]
        return [name for found in inner for name in found] or [str(name) for name in names]
    if isinstance(names, Sequence) and not isinstance(names, str):
        return [str(name) for name in names if isinstance(name, str | int)]
    return []


def _wider(fields: Sequence[Field], others: Sequence[Field]) -> tuple[Field, ...]:
    found = {other.name: other for other in others}
    both = ((field, found.get(field.name, field)) for field in fields)
    return tuple(replace(f, low=min(f.low, other.low), high=max(f.high, other.high)) for f, other in both)


def _fields(key: str, features: Mapping[str, Any], rows: NDArray[np.float32]) -> tuple[Field, ...]:
    found = []
    for name, column in zip(names_of(key, features[key]) if key in features else (), rows.T, strict=True):
        known = column[np.isfinite(column)].astype(np.float64)
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        margin = max(MARGIN * (high - low), SMALLEST)
        found.append(Field(name, "", low - margin, high + margin))
    return tuple(found)

"""What a robot or a policy was made from: the module, its options, its weights, and the versions beside it."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embodied.versions import installed

PACKAGES = (
    "embodied-runtime", "numpy", "grpcio", "protobuf", "mujoco", "gymnasium", "metaworld", "torch", "transformers",
    "tokenizers",
)  # fmt: skip
# Options that say where a robot stands and who lays out its scene; what its cameras are the spec says. An arm that was
# plugged in again, and another of its kind on another port, are the same robot to a report.
PLACE = ("port", "calibration", "cameras", "stage")


@dataclass(frozen=True)
class Origin:
    """A report's account of one side of a rollout; what is None or empty is not known."""

    module: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # plain JSON types
    checkpoint_sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def traits(self) -> dict[str, Any]:
        """Return the options that decide how an episode goes: all but those of place."""
        return {name: value for name, value in self.options.items() if name not in PLACE}

    @property
    def place(self) -> dict[str, Any]:
        """Return the options of place."""
        return {name: value for name, value in self.options.items() if name in PLACE}

    @property
    def packages(self) -> dict[str, str]:
        """Return the versions that decide how an episode goes: all but that of the machine's system."""
        return {name: version for name, version in self.versions.items() if name != "platform"}


def versions_here() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide how an episode goes, in this environment."""
    return {"python": platform.python_version(), "platform": platform.platform(), **installed(PACKAGES)}


def with_defaults(make: Callable[..., Any], options: Mapping[str, Any], *, leave: Sequence[str] = ()) -> dict[str, Any]:
    """Return the options with make's defaults that JSON can spell, but for some: a default may change some day."""
    defaults = {p.name: p.default for p in inspect.signature(make).parameters.values() if p.name not in leave}
    plain = {key: value for key, value in defaults.items() if isinstance(value, bool | int | float | str)}
    return {**plain, **options}

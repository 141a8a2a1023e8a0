"""The finished episodes of a rollout, a line each: one that was interrupted goes on from it as if it had not been."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embodied.comparison import protocol_differences
from embodied.errors import EmbodiedError
from embodied.failures import Failure
from embodied.loop import Cycle, Episode
from embodied.types import Fault, Intervention

FILE = Path("journal.jsonl")  # in the output folder, while the rollout runs

Key = tuple[Any, ...]  # task, seed, mode, delay_ms


class JournalError(EmbodiedError):
    """An interrupted rollout that cannot be gone on with as asked."""


class Journal:
    """Appends each episode as it ends. What add() has returned from survives the death of this process."""

    def __init__(self, folder: Path, protocol: Mapping[str, Any]) -> None:
        """Begin, or go on where protocol is that of the journal in folder; raise JournalError where it is another."""
        self._path = folder / FILE
        self.finished: dict[Key, Episode] = {}
        if self._path.exists():
            self._read(json.loads(json.dumps(protocol)))
        else:
            self._append(protocol)

    def add(self, key: Key, episode: Episode) -> None:
        """Append an episode."""
        self._append({"key": key, "episode": asdict(episode)})

    def close(self) -> None:
        """Remove the file: the rollout is over."""
        self._path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, separators=(",", ":"), default=_plain) + "\n")

    def _read(self, protocol: Mapping[str, Any]) -> None:
        """Read what is whole, and cut off a last line that a kill left torn."""
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            self._path.write_bytes(whole)
        entries = [self._entry(number, line) for number, line in enumerate(whole.splitlines(), start=1)]
        if not entries:
            self._append(protocol)
            return
        if differences := protocol_differences(entries[0], protocol):
            lines = "".join(f"\n  - {difference}" for difference in differences)
            raise JournalError(
                f"{self._path.parent} holds another rollout, of which the first of each pair is; remove it, or choose "
                f"another --out:{lines}"
            )
        for number, entry in enumerate(entries[1:], start=2):
            with self._naming(number):
                self.finished[tuple(entry["key"])] = _episode(entry["episode"])

    def _entry(self, number: int, line: bytes) -> dict[str, Any]:
        with self._naming(number):
            return dict(json.loads(line))

    @contextlib.contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Raise JournalError, naming the line, for what cannot be read of it."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise JournalError(
                f"{self._path}: line {number} is damaged ({error}); remove that line, and its episode is run again"
                if number > 1
                else f"{self._path}: the first line, which says what the rollout is, is damaged ({error}); remove the "
                "file to begin anew"
            ) from error


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return what numpy calls a number as Python does; a robot may have counted in either."""
    return value.item()


def _episode(data: dict[str, Any]) -> Episode:
    """Read what asdict wrote."""
    groups: dict[str, Any] = {
        "cycles": tuple(Cycle(**cycle) for cycle in data["cycles"]),
        "interventions": tuple(Intervention(**each) for each in data["interventions"]),
        "faults": tuple(Fault(**each) for each in data["faults"]),
        "failure": Failure(**failure) if (failure := data.get("failure")) else None,
        "health": {name: tuple(ends) for name, ends in data["health"].items()},
    }
    return Episode(**{**data, **groups})

"""A run's whole state on disk: written while training goes on, there whole or not at all, sharded where weights are.

Each state is a folder of safetensors files, `state/00000500`: one file, or one a process where they hold shards. A
state may be read by another number of processes than wrote it.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from embodied.errors import EmbodiedError
from embodied.output import to_disk
from policies.training.memory import lacks_memory
from policies.training.team import Team

FILE = "shard-00001-model-00001-of-00001.safetensors"  # as torch calls the only one
PARTIAL = ".partial"


class SaveError(EmbodiedError):
    """A state that could not be written; the one before it is as it was."""


class Saver:
    """Writes states into a folder on a thread of its own, the newest few of which stay."""

    def __init__(self, folder: Path, team: Team, *, keep: int, shard: bool) -> None:
        self.folder, self._team, self._keep, self._shard = folder, team, keep, shard
        self._thread: threading.Thread | None = None
        self._error: SaveError | None = None
        # Of its own, as the training's collectives go on meanwhile.
        self._group = dist.new_group(backend="gloo") if shard else None
        for left in folder.glob(f"*{PARTIAL}") if team.leads else ():
            shutil.rmtree(left, ignore_errors=True)

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._thread is not None:
            self._thread.join()
        if kind is None:
            self.check()

    def save(self, step: int, tensors: Mapping[str, Tensor], before: Callable[[], None]) -> None:
        """Copy tensors and return; they, and what before writes before them, then reach the disk.

        Wait for an earlier save first, and raise what it came to.
        """
        self.wait()
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._thread = threading.Thread(target=self._write, args=(step, copies, before), name="save", daemon=False)
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was saved is on the disk; raise SaveError if it is not."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise SaveError if a save failed; do not wait."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, step: int, tensors: Mapping[str, Tensor], before: Callable[[], None]) -> None:
        partial = self.folder / f"{step:08d}{PARTIAL}"
        try:
            if self._team.leads:
                before()
                partial.mkdir(parents=True, exist_ok=True)
            if self._shard:
                _write_shards(partial, tensors, self._group)
            elif self._team.leads:
                save_file({n: t.contiguous() for n, t in tensors.items()}, partial / FILE)
                to_disk(partial / FILE)
            if self._team.leads:
                self._finish(partial)
        except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
            self._error = self._fail(step, partial, error)

    def _fail(self, step: int, partial: Path, error: BaseException) -> SaveError:
        shutil.rmtree(partial, ignore_errors=True)
        for left in self.folder.parent.glob("*.part"):
            left.unlink(missing_ok=True)
        last = newest(self.folder)
        kept = f"that of step {int(last.name)} is intact" if last else "there is none before it"
        return SaveError(f"cannot write the checkpoint of step {step} to {self.folder.parent} ({cause(error)}); {kept}")

    def _finish(self, partial: Path) -> None:
        final = partial.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in states(self.folder)[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)


def states(folder: Path) -> list[Path]:
    """Return the whole states in a folder, the newest last."""
    return sorted(path for path in folder.glob("*") if path.name.isdigit())


def newest(folder: Path) -> Path | None:
    """Return the newest whole state, None where there is none."""
    return states(folder)[-1] if states(folder) else None


def read_state(path: Path, tensors: Mapping[str, Tensor], team: Team) -> None:
    """Fill tensors, shards too, by their names; raise EmbodiedError if the state is damaged or of another model."""
    try:
        if [file.name for file in path.iterdir()] == [FILE] and not any(
            isinstance(t, DTensor) for t in tensors.values()
        ):
            _fill(tensors, load_file(path / FILE))
        else:
            with _quiet():
                load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=team.world == 1)
    except (CheckpointException, SafetensorError, RuntimeError, KeyError, ValueError, AssertionError, OSError) as error:
        first = _first(error)
        if not isinstance(first, Exception):
            raise first from error  # someone wants to stop, and torch took that for a failure to read
        if lacks_memory(first):
            raise MemoryError(str(first)) from error
        raise EmbodiedError(
            f"{path} is damaged or of another model ({cause(error)}); begin again in another --out"
        ) from error


def _fill(tensors: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    if missing := [name for name in tensors if name not in found]:
        raise ValueError(f"no {missing[0]} in it")
    for name, tensor in tensors.items():
        if found[name].shape != tensor.shape:
            raise ValueError(f"{name} is {[*found[name].shape]}, not {[*tensor.shape]}")
        tensor.detach().copy_(found[name])


def _first(error: BaseException) -> BaseException:
    """Return what an error, perhaps of several processes, comes of."""
    if isinstance(error, CheckpointException) and error.failures:
        return next(iter(error.failures.values()))[0]
    return error


def cause(error: BaseException) -> str:
    """Return in one line what an error, perhaps of several processes, comes down to."""
    error = _first(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _write_shards(path: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None) -> None:
    with _quiet():
        writer = HuggingFaceStorageWriter(str(path), save_distributed=True)
        save(dict(tensors), storage_writer=writer, process_group=group)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

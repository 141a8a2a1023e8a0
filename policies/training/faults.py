"""What a machine that runs out of memory or disk says of it: one line, with what would help."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

import torch

from embodied.errors import EmbodiedError
from policies.training.config import TrainConfig
from policies.training.folder import STATE
from policies.training.memory import lacks_memory
from policies.training.saving import newest

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def naming_faults(config: TrainConfig) -> Iterator[None]:
    """Raise EmbodiedError in place of an error within that comes of too little memory or disk."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError, OSError) as error:
        if not (fault := _name(config, error)):
            raise
        last = newest(config.out / STATE)
        kept = f"the checkpoint of step {int(last.name)} is intact" if last else "no checkpoint had been written"
        raise EmbodiedError(f"{fault}; {kept}") from error


def _name(config: TrainConfig, error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in FULL:
        return f"cannot write to {config.out}: {error.strerror}"
    if not lacks_memory(error):
        return ""
    asked = re.search(r"allocate (\d+) bytes|allocate ([\d.]+ [KMGT]iB)", str(error))
    more = f" when {asked[1] + ' bytes' if asked[1] else asked[2]} more were asked for" if asked else ""
    return (
        f"out of memory{more}, with a batch of {config.batch} learnt in {config.accumulate} part(s); "
        f"--accumulate {2 * config.accumulate} needs about half as much beside the weights, "
        "and --dry-run tells how much that is"
    )

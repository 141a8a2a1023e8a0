"""Tells an error that comes of too little memory, whichever library found out."""

from __future__ import annotations

import errno
import re

import torch

SAID = re.compile(r"(allocate|enough|out of|insufficient) memory|bad_alloc|can't start new thread", re.IGNORECASE)


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return SAID.search(str(error)) is not None

"""In which precision matrices are multiplied: a machine without bfloat16 instructions is many times slower in it."""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]  # auto: the faster one here; a resumed run keeps to its own

SIZE = 256  # of the square matrices that are multiplied
ROUNDS = 3


@functools.cache
def faster_precision(device: torch.device) -> Precision:
    """Return the precision in which a device multiplies matrices faster, as measured now."""
    return "bf16" if _product_s(device, torch.bfloat16) < _product_s(device, torch.float32) else "fp32"


def _product_s(device: torch.device, dtype: torch.dtype) -> float:
    """Return the seconds that one product takes, the best of a few."""
    matrix = torch.ones(SIZE, SIZE, device=device, dtype=dtype)
    times_s = []
    for _ in range(ROUNDS):
        begin_s = time.perf_counter()
        torch.mm(matrix, matrix).sum().item()  # the number is only there once the product is
        times_s.append(time.perf_counter() - begin_s)
    return min(times_s)

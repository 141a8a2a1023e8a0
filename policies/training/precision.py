"""In which precision matrices are multiplied: a machine without bfloat16 instructions is many times slower in it."""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]  # auto: the faster one here; a resumed run keeps to its own

SMALL, LARGE = 256, 1024  # of the square matrices that are multiplied: to compare precisions, and at its fastest
MEASURED_S = 0.2


@functools.cache
def faster_precision(device: torch.device) -> Precision:
    """Return the precision in which a device multiplies matrices faster, as measured now."""
    bf16, fp32 = (matrix_rate(device, dtype, size=SMALL) for dtype in (torch.bfloat16, torch.float32))
    return "bf16" if bf16 > fp32 else "fp32"


@functools.cache
def matrix_rate(device: torch.device, dtype: torch.dtype, *, size: int = LARGE) -> float:
    """Return how many floating-point operations a second this machine multiplies matrices with: the best of several."""
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    best_s, end_s = float("inf"), time.monotonic() + MEASURED_S
    while time.monotonic() < end_s or best_s == float("inf"):
        begin_s = time.perf_counter()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best_s = min(best_s, time.perf_counter() - begin_s)
    return 2 * size**3 / best_s

"""The rate that the card reaches in one large matrix product, of which the steps' rates are shares."""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.gpu.card import card
from benchmarks.gpu.row import Outcome, Setting

#: Rows and columns, and timed products.
SIZE, REPEATS = 8192, 30


def measure(setting: Setting) -> Outcome:
    """Time bfloat16 products; the card and its driver are among the values."""
    size, repeats = (128, 3) if setting.dry_run else (SIZE, REPEATS)
    left, right = torch.randn(2, size, size, device=setting.device, dtype=torch.bfloat16).unbind()
    times = [_seconds(left, right) for _ in range(repeats + 3)][3:]
    rate = 2 * size**3 / statistics.median(times)
    values = {"size": size, "flops": rate, "seconds": times, "card": card(setting.device)}
    return Outcome(f"{rate / 1e12:.3g} TFLOP/s ({size} x {size} x {size})", values)


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    synchronize(left.device.type)
    start = time.perf_counter()
    left @ right
    synchronize(left.device.type)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()

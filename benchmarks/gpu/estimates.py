"""What `vidpref estimate` computes of the steps that are measured: memory and operations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from benchmarks.gpu.methods import Method, method_of
from benchmarks.gpu.random_weights import CHECKPOINTS, sizes
from benchmarks.gpu.row import Outcome, Setting
from callbacks.estimate.checkpoint_facts import write_checkpoint
from callbacks.estimate.estimator import Estimator
from callbacks.estimate.step import StepCost

_GIB = 2**30


def measure(setting: Setting) -> Outcome:
    """Estimate both steps, on one device and under FSDP2."""
    values: dict[str, Any] = {}
    for name in CHECKPOINTS:
        # Of its own: the checkpoints with weights may not be there yet, and none are needed.
        folder = setting.scratch / name
        folder.mkdir(exist_ok=True)
        write_checkpoint(sizes(name, setting.dry_run), folder)
        method = method_of(name, folder, setting.dry_run)
        estimator = estimator_of(method)
        values[name] = cost_values(estimator.cost(method.sizes))
        values[f"{name}-fsdp"] = cost_values(estimator.cost(method.sizes, gpus=1, sharded=True))
    summary = ", ".join(f"{name}: {value['peak_bytes'] / _GIB:.1f} GiB" for name, value in values.items())
    return Outcome(summary, values)


def estimator_of(method: Method) -> Estimator:
    """The estimator of a method's step, of which every micro-batch ends in an optimizer step."""
    precision = _autocast if method.precision == "bf16-mixed" else nullcontext
    around: Callable[[], AbstractContextManager[Any]] = precision
    return Estimator(method.module, method.data, "adapter", around, accumulates=False)


def _autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


def cost_values(cost: StepCost) -> dict[str, Any]:
    """What a cost is compared by, in JSON types."""
    narrow = sum(count for work, count in cost.flops.items() if work.dtype not in ("float32", "float64"))
    return {
        "peak_bytes": cost.peak.total,
        "phase": cost.peak.phase,
        "flops": sum(cost.flops.values()),
        "float32_flops": sum(cost.flops.values()) - narrow,
    }

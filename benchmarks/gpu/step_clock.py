"""Time, peak memory and synchronisations of a fit's steps, seen from inside."""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from benchmarks.gpu.matrix_rate import synchronize
from benchmarks.toy.commands import ROOT

#: What torch says when the processor waits for the device.
_SYNC = "called a synchronizing CUDA operation"


class StepClock(Callback):
    """Step clock callback: seconds of each step after the first ones, each from the end of the step before.

    A step is everything between: loading the batch, moving it, the reference, forward, backward, the optimizer and
    what Lightning and the callbacks do. Synchronisations are counted in the last step that is not timed, since their
    warnings take time; peak memory is that of the timed ones.

    Args:
        warmup: steps that are not timed, at least 2.
        deadline: `time.monotonic()` by which the fit has to be over; it ends early where a step more would be later.
        reserve: seconds before the deadline for what comes after the fit.
    """

    def __init__(self, warmup: int, deadline: float, reserve: float = 5.0) -> None:
        self.warmup, self.deadline, self.reserve = warmup, deadline, reserve
        self.seconds: list[float] = []
        self.losses: list[Tensor] = []
        self.syncs: Counter[str] = Counter()
        self.peak: int | None = None
        self._steps = 0
        self._before = 0.0
        self._counting = ExitStack()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock."""
        device = trainer.strategy.root_device.type
        self._counting.close()
        synchronize(device)
        now = time.perf_counter()
        self._steps += 1
        if self._steps > self.warmup:
            self.seconds.append(now - self._before)
        self.losses.append(outputs["loss"].detach())
        if device == "cuda":
            self.peak = torch.cuda.max_memory_allocated()
            if self._steps == self.warmup:
                torch.cuda.reset_peak_memory_stats()
        if self._steps == self.warmup - 1:
            self._counting.enter_context(counted_syncs(self.syncs, device))
        if self.seconds and time.monotonic() + max(self.seconds) > self.deadline - self.reserve:
            trainer.should_stop = True
        self._before = time.perf_counter()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Count no more."""
        self._counting.close()


def counted_syncs(counts: Counter[str], device: str) -> ExitStack:
    """A context that counts synchronisations by where in the code they are.

    torch sees those of operations (`.item()`, `nonzero`, copies to the processor), not an explicit `synchronize`.

    Args:
        counts: place -> how many, which is added to at the end.
        device: "cuda"; on another there is nothing to wait for.
    """
    stack = ExitStack()
    caught = stack.enter_context(warnings.catch_warnings(record=True))
    warnings.simplefilter("always")
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
        stack.callback(torch.cuda.set_sync_debug_mode, "default")

    def count() -> None:
        for warning in caught:
            if _SYNC in str(warning.message):
                counts[f"{place(warning.filename)}:{warning.lineno}"] += 1

    stack.callback(count)
    return stack


def place(file: str) -> str:
    """A file's name as far as it says where it is: below the repository, or below where libraries are installed."""
    path = Path(file)
    for root in (ROOT, *map(Path, sys.path)):
        if root != Path() and path.is_relative_to(root) and "site-packages" not in path.relative_to(root).parts:
            return str(path.relative_to(root))
    return file

"""How fast training goes: samples per second, seconds per optimizer step, share of time spent waiting for data."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules.logged import as_logged

#: What `Throughput` logs; no two runs have equal values.
SPEED_METRICS = ("train/samples_per_second", "train/step_seconds", "train/data_wait")


@dataclass(frozen=True, slots=True)
class Beat:
    """Timing of one micro-batch: seconds spent waiting for it, seconds spent on it, and its samples on this rank."""

    waited: float
    worked: float
    samples: int | Tensor


class Throughput(Callback):
    """Logs ``train/samples_per_second`` (all ranks), ``train/step_seconds`` and ``train/data_wait`` (loader's share).

    Means over the last `window` micro-batches; the first one after a start or a validation is work, but its wait is
    not the loader's, so it is left out. A GPU works asynchronously, so a single beat means little and the mean of a
    window much. Padding and skipped samples do not count.

    Args:
        window: how many micro-batches the means run over.
    """

    def __init__(self, window: int = 20) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; give the number of micro-batches to average over, at least 1")
        self.beats: deque[Beat] = deque(maxlen=window)
        self._started = 0.0
        self._ended: float | None = None
        self._waited = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop the clock of waiting, start that of work."""
        self._started = perf_counter()
        self._waited = 0.0 if self._ended is None else self._started - self._ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the means of the window."""
        self._ended = perf_counter()
        self.beats.append(Beat(self._waited, self._ended - self._started, num_samples(batch)))
        seconds = sum(beat.waited + beat.worked for beat in self.beats)
        per_batch = seconds / len(self.beats)
        values = (
            trainer.world_size * sum(beat.samples for beat in self.beats) / seconds,
            per_batch * trainer.accumulate_grad_batches,
            sum(beat.waited for beat in self.beats) / seconds,
        )
        pl_module.log_dict(as_logged(dict(zip(SPEED_METRICS, values, strict=True))), batch_size=1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is neither work nor waiting."""
        self._ended = None


def num_samples(batch: Any) -> int | Tensor:
    """How many real samples a batch holds: those its mask keeps, else its keys; 1 for a batch that has neither.

    It is a number where that is known without asking a device, else a tensor there: reading it would wait for the step.
    """
    if isinstance(real := getattr(batch, "real", None), list):
        return sum(real)
    mask = getattr(batch, "mask", None)
    if isinstance(mask, Tensor):
        return mask.sum()
    return len(getattr(batch, "keys", ())) or 1

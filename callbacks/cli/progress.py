"""The progress bar: the loss and its terms, samples per second, and the time left for the whole run."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import (
    BatchesProcessedColumn,
    CustomBarColumn,
    CustomTimeColumn,
)
from rich.progress import TextColumn
from torch import Tensor

from datamodules.stream.hand_out import HandOut

LOSS = "train/loss"
SPEED = "train/samples_per_second"
STEP = "train/step_seconds"


class Progress(RichProgressBar):
    """Progress bar callback: Lightning's rich bar, with the losses of whole steps and the time left for the run.

    Beside the bar of the epoch are the loss, each of its terms, samples per second and the time left for the whole
    run, from the mean step time that `Throughput` logs; losses are those of whole optimizer steps, never of the
    micro-batches so far. Where the output is no terminal (a cluster's log file) a plain line appears instead, at most
    once in `seconds_between_lines`. Where the ranks of a `predict` take batches by need, batches and the time left are
    those of all ranks. The command line adds this callback by itself; ``--trainer.enable_progress_bar false`` leaves
    it out.

    Args:
        refresh_rate: redraws per second.
        seconds_between_lines: how often a line is written where there is no terminal.
    """

    def __init__(self, refresh_rate: int = 4, seconds_between_lines: float = 30.0) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.seconds_between_lines = seconds_between_lines
        self._next_update = 0.0
        self._next_line = 0.0
        self._started = 0.0
        #: The optimizer steps that were over before this micro-batch, and whether it ended one more.
        self._steps = 0
        self._step_ended = True

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """What, bar, batches, elapsed and left in the epoch; the metrics column follows."""
        return [
            TextColumn("[progress.description]{task.description}"),
            CustomBarColumn(bar_width=24, complete_style=self.theme.progress_bar),
            BatchesProcessedColumn(style=self.theme.batch_progress),
            CustomTimeColumn(style=self.theme.time),
        ]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Loss, terms, whatever was logged for the bar, samples per second and time left, ready to print."""
        logged = trainer.callback_metrics
        shown: dict[str, Any] = {}
        for name, value in logged.items():
            if name == LOSS or name.startswith(f"{LOSS}/"):
                shown[name.removeprefix(f"{LOSS}/").removeprefix("train/")] = _printed(value)
        for name, number in trainer.progress_bar_metrics.items():
            shown.setdefault(name, _printed(number))
        if SPEED in logged:
            shown["samples/s"] = f"{float(logged[SPEED]):.3g}"
        left = seconds_left(trainer)
        if left is not None:
            shown["left"] = str(timedelta(seconds=round(left)))
        return shown

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, and count steps from where the run is."""
        super().on_train_start(trainer, pl_module)
        self._steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; without a terminal, write a line now and then, after a whole step."""
        # Before the base class, which reads the metrics.
        self._step_ended, self._steps = trainer.global_step != self._steps, trainer.global_step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._step_ended and self._writes_lines:
            now = monotonic()
            if now >= self._next_line:
                self._next_line = now + self.seconds_between_lines
                metrics = " ".join(f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items())
                self._print(f"step {trainer.global_step}: {metrics}")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_predict_start(trainer, pl_module)
        self._started, self._next_line = monotonic(), 0.0

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar; without a terminal, write a line now and then, and the last one always."""
        hand_out = _hand_out(trainer)
        # Of the other ranks' batches those are made that they have gone on from; this one is not counted yet.
        done = batch_idx + 1 if hand_out is None else hand_out.made + 1
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, done - 1, dataloader_idx)
        if self._writes_lines:
            now, total = monotonic(), self.total_predict_batches_current_dataloader
            if now >= self._next_line or done == total:
                self._next_line = now + self.seconds_between_lines
                left = timedelta(seconds=round((now - self._started) / done * (total - done)))
                batches = "batches" if hand_out is None else "batches of all ranks"
                self._print(f"predict: {done} of {total} {batches}, left {left}")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where the other ranks have batches in hand and this one has none, say so: the bar does not move any more."""
        hand_out = _hand_out(trainer)
        if hand_out is not None and self._writes_lines and (made := hand_out.made) < hand_out.batches:
            self._print(f"predict: {made} of {hand_out.batches} batches of all ranks; other ranks make the last ones")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the epoch's last numbers on the screen, which are of a whole step."""
        self._next_update, self._step_ended = 0.0, True
        super().on_train_epoch_end(trainer, pl_module)

    @property
    def _writes_lines(self) -> bool:
        """Whether this process writes lines, as there is no terminal for a bar."""
        return self.is_enabled and self._console is not None and not self._console.is_terminal

    def _print(self, line: str) -> None:
        assert self._console is not None, "asked by who writes lines"
        self._console.print(line, soft_wrap=True, highlight=False)

    def _update_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metrics after a whole step, no oftener than the bar is drawn: every reading waits for the device."""
        now = monotonic()
        if self._step_ended and now >= self._next_update:
            self._next_update = now + 1.0 / max(self.refresh_rate, 1)
            super()._update_metrics(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        """As Lightning names the epoch, but for a run without a number of epochs, of which it makes ``Epoch 7/-2``."""
        description = str(super()._get_train_description(current_epoch))
        return description.replace("/-2", "  ")


def _hand_out(trainer: Trainer) -> HandOut | None:
    """By which the ranks of a `predict` take their batches; None where each has a share."""
    hand_out: HandOut | None = getattr(trainer.predict_dataloaders, "hand_out", None)
    return hand_out


def _printed(value: Any) -> str:
    return f"{float(value):.4g}" if isinstance(value, int | float | Tensor) else str(value)


def seconds_left(trainer: Trainer) -> float | None:
    """The seconds left in the run at the mean step time; None before one is known, or where the run has no end."""
    step_seconds = trainer.callback_metrics.get(STEP)
    if step_seconds is None:
        return None
    total = trainer.estimated_stepping_batches
    if total == float("inf"):
        return None
    return max(0.0, (total - trainer.global_step) * float(step_seconds))

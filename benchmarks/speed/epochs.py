"""`python -m benchmarks.speed epochs`: VistaDPO over several epochs, with a live and with a remembered reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from benchmarks.speed.measure import TOLERANCE, timed_step
from benchmarks.speed.models import train_a_little
from benchmarks.speed.options import Clock, RunOptions, clock_line
from benchmarks.speed.table import machine_line, print_table, write_report
from benchmarks.speed.vista_case import build_case
from benchmarks.speed.vista_rows import RELEASED, WITH_TOWER, ReleasedSchedule
from benchmarks.speed.vista_run import method, pairs, write_run
from callbacks.reference.model import ReferenceModel

Mode = Literal["adapter", "remember"]
#: Rows by the reference's mode.
ROWS: dict[str, Mode] = {"ours, live": "adapter", "ours, remembered": "remember"}


class EpochClock(Callback):
    """Callback that reads the clock at each epoch's start and at the end, and keeps the losses."""

    def __init__(self, clock: Clock) -> None:
        self._now = time.perf_counter if clock == "wall" else time.process_time
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the adapters away from 0: policy and reference would be equal."""
        train_a_little(pl_module, seed=0)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the clock."""
        self.times.append(self._now())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the clock."""
        self.times.append(self._now())

    @property
    def seconds(self) -> list[float]:
        """Of each epoch."""
        return [end - start for start, end in zip(self.times, self.times[1:], strict=False)]


def epochs(options: RunOptions) -> dict[str, Any]:
    """Measure and report.

    Returns:
        The content of the report.

    Raises:
        RuntimeError: the rows compute different losses, so that comparing their times says nothing.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        index_file = write_run(options, folder)
        clocks = {name: run(options, folder, index_file, mode) for name, mode in ROWS.items()}
        baseline = ReleasedSchedule(build_case(options, folder), tower=True)
        timed_step(baseline, options.clock)
        released = [timed_step(baseline, options.clock) for _ in range(options.repeats)]
    losses = [clock.losses for clock in clocks.values()]
    apart = max(max(step) - min(step) for step in zip(*losses, strict=True))
    if not apart <= TOLERANCE:
        raise RuntimeError(f"the rows compute different losses: {dict(zip(clocks, losses, strict=True))}")
    return _reported(options, clocks, statistics.median(released))


def run(options: RunOptions, folder: Path, index_file: Path, mode: Mode) -> EpochClock:
    """A fit from loading to its end.

    Args:
        options: sizes.
        folder: the checkpoint.
        index_file: the samples.
        mode: how the reference's scores come.
    """
    seed_everything(options.seed, verbose=False)
    clock = EpochClock(options.clock)
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=options.epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        default_root_dir=folder / mode, callbacks=[ReferenceModel(mode), clock],
    )  # fmt: skip
    trainer.fit(method(options, folder), pairs(options, index_file))
    return clock


def _reported(options: RunOptions, clocks: Mapping[str, EpochClock], released: float) -> dict[str, Any]:
    alone = released * options.samples
    seconds = {RELEASED + WITH_TOWER: [alone] * options.epochs} | {
        name: clock.seconds for name, clock in clocks.items()
    }
    total = alone * options.epochs
    rows = [
        [name, *(f"{value:.2f}" for value in values), f"{sum(values):.2f}", f"{total / sum(values):.2f}"]
        for name, values in seconds.items()
    ]
    title = f"VistaDPO, {options.samples} samples in {options.epochs} epochs, with the vision tower"
    columns = ("row", *(f"epoch {number}" for number in range(1, options.epochs + 1)), "together", "times")
    notes = [
        f"{RELEASED}: {released:.3f} s a step, times samples and epochs, without loader and optimizer, which the other "
        "rows have",
        f"times: how many times as fast as {RELEASED!r}",
        clock_line(options.clock),
        machine_line(options),
    ]
    print_table(title, columns, rows, notes)
    return write_report(title, options, [{"name": name, "seconds": values} for name, values in seconds.items()])

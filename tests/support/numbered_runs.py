"""Training runs on numbered samples: cheap data with a place to go on from, and a record of what a run did."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch import Callback

from datamodules.shards.index import Index
from datamodules.stream.indexed_data import Split
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.planned_data import PlannedData, Selection
from datamodules.stream.recipe import Recipe, SampleRead
from datamodules.vista.batches import VistaBatch
from tests.support.preference_fakes import make_batch


class NumberRecipe(Recipe[VistaBatch]):
    """Batches of the samples' numbers."""

    def make_sample(self, sample: SampleRead) -> int:
        return int(sample.entry.key[1:])

    def collate(self, samples: list[int | None], planned: PlannedBatch) -> VistaBatch:
        batch = make_batch([number or 0 for number in samples])
        batch.denominators = dict.fromkeys(batch.denominators, len(planned.step_positions) / 2)
        return batch


class Numbers(PlannedData[VistaBatch]):
    """Batches of two samples; `batch_size` 1 makes two micro-batches of each."""

    schema: ClassVar[str] = "vidpref/vista"

    def __init__(self, shards: str, batch_size: int = 2) -> None:
        paths: dict[Split, Any] = {"train": shards, "val": shards}
        super().__init__(paths, batch_size, 0, 0, 16, "raise", 10, None, None)
        self.resample_each_epoch = False

    def check(self, split: Split, index: Index) -> None:
        assert len(index) > 3

    def selection(self, split: Split) -> Selection:
        return Selection({}, np.arange(len(self.index(split)) if split == "train" else 3))

    def recipe(self, split: Split) -> NumberRecipe:
        return NumberRecipe()


class Trace(Callback):
    """What a run did: the keys of every step, and the steps after which it validated."""

    def __init__(self) -> None:
        self.keys: dict[int, list[str]] = {}
        self.validated: list[int] = []
        self._begun: list[str] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._begun += batch.keys
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.keys[trainer.global_step], self._begun = self._begun, []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.validated.append(trainer.global_step)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Signal handlers that a stopped run leaves behind are gone afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)

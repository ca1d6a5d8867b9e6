"""Base of the metrics of loss terms; exact over micro-batches and ranks with unequal shares: sums, divided once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules.logged import forget


class TermMetrics(Callback, ABC):
    """Callback that adds up each term's values over the steps and logs what follows from the sums.

    A training value covers all micro-batches since the last logged step, a validation value the whole set, of all
    ranks. Ranks agree on the logged steps and must agree on the terms, so that all of them enter the one reduction.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, Tensor]] = {"train": {}, "val": {}}
        self._logged_step = -1
        #: What was ever logged, to be taken out of a step that has no value for it.
        self._names: dict[str, set[str]] = {"train": set(), "val": set()}

    @abstractmethod
    def sums(self, outputs: Any) -> Mapping[str, Tensor]:
        """Term name -> (k,) sums of one step's outputs that add up over batches and ranks; all of one length."""

    @abstractmethod
    def named(self, prefix: str, term: str, sums: Tensor) -> Mapping[str, float]:
        """The values to log under `prefix/`, from one term's (k,) sums on the CPU; nothing where no item was met."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin empty; a step is logged by the micro-batch that completes it."""
        self._sums["train"], self._logged_step = {}, trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the micro-batch; on a step that is logged, log what came since the last one."""
        self._add("train", outputs)
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step != self._logged_step and every and step % every == 0:
            self._logged_step = step
            self._log("train", trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation."""
        self._sums["val"] = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the batch."""
        self._add("val", outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what all ranks saw."""
        self._log("val", trainer, pl_module)

    def _add(self, prefix: str, outputs: Any) -> None:
        collected = self._sums[prefix]
        for term, sums in self.sums(outputs).items():
            collected[term] = collected[term] + sums if term in collected else sums

    def _log(self, prefix: str, trainer: Trainer, pl_module: LightningModule) -> None:
        collected, self._sums[prefix] = self._sums[prefix], {}
        if not collected:
            return
        # One reduction for all terms; every rank has the same terms, in the order of the method's weights.
        totals = trainer.strategy.reduce(torch.stack(list(collected.values())), reduce_op="sum").cpu()
        values: dict[str, float] = {}
        for term, sums in zip(collected, totals, strict=True):
            values |= self.named(prefix, term, sums)
        # Every rank holds the same values already: averaging them changes nothing.
        pl_module.log_dict(values, batch_size=1, sync_dist=prefix == "val")
        forget(trainer, self._names[prefix] - values.keys())
        self._names[prefix] |= values.keys()

"""Which samples a run skipped: counted in the log, listed with the reason in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

FILE_NAME = "bad_samples.json"


class BadSamples(Callback):
    """Bad samples callback: counts and lists the samples that were skipped.

    At the end of every epoch it logs ``bad_samples``, how many different ones all ranks have skipped so far.
    ``<default_root_dir>/bad_samples.json`` maps each one's key to the reason. Neither is there while nothing was
    skipped. A datamodule without `bad_samples` skips none. The command line adds this callback by itself.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, log and list."""
        self._log(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, log and list."""
        self._log(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """List; `predict` has no log."""
        self.collect(trainer)

    def _log(self, trainer: Trainer, module: LightningModule) -> None:
        count = len(self.collect(trainer))
        if count and not trainer.sanity_checking:
            module.log("bad_samples", float(count))

    def collect(self, trainer: Trainer) -> dict[str, str]:
        """Key -> why over all ranks, which call it together; rank 0 writes the list when there is one."""
        reasons = skipped_samples(trainer)
        if reasons and trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / FILE_NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(reasons, indent=1, sort_keys=True) + "\n")
        return reasons


def skipped_samples(trainer: Trainer) -> dict[str, str]:
    """Key -> why, of the samples that all ranks have skipped so far; they call it together."""
    reasons: dict[str, str] = dict(getattr(getattr(trainer, "datamodule", None), "bad_samples", {}))
    if trainer.world_size > 1:
        by_rank: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(by_rank, reasons)
        reasons = {key: why for of_rank in by_rank for key, why in of_rank.items()}
    return reasons

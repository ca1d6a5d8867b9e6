"""Callbacks for `predict` runs of the command: one counts what is made, one kills the run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class DenoiseProbe(Callback):
    """Writes a line for every call of the policy's `denoise`: the rank and the keys of the batch that it is for."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.keys: list[str] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        policy: Any = pl_module.policy
        denoise = policy.denoise

        def counted(*arguments: Any) -> Any:
            with self.path.open("a") as file:
                file.write(json.dumps({"rank": trainer.global_rank, "keys": self.keys}) + "\n")
            return denoise(*arguments)

        policy.denoise = counted

    def on_predict_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        self.keys = [key for key, real in zip(batch.keys, batch.mask.tolist(), strict=True) if real]


class KillAll(Callback):
    """SIGKILL for all ranks at once when rank 0 has written its `batch`-th batch: no handler runs."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        if trainer.is_global_zero and arguments[2] + 1 == self.batch:
            os.killpg(0, signal.SIGKILL)


class StopRank(Callback):
    """SIGTERM to one rank while it makes its `batch`-th batch."""

    def __init__(self, rank: int, batch: int) -> None:
        self.rank, self.batch = rank, batch

    def on_predict_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *arguments: Any) -> None:
        if trainer.global_rank == self.rank and arguments[0] + 1 == self.batch:
            os.kill(os.getpid(), signal.SIGTERM)

"""What a fit does step by step, in a file that outlives it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StepRecord(Callback):
    """Step record callback: a line with step, loss and keys of each step in a file.

    Args:
        path: of the file.
        kill_after: end the process by SIGKILL after this step; None = never.
    """

    def __init__(self, path: str, kill_after: int | None = None) -> None:
        self.path = Path(path)
        self.kill_after = kill_after

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the line."""
        line = {"step": trainer.global_step, "loss": float(outputs["loss"]), "keys": batch.keys}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if trainer.global_step == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

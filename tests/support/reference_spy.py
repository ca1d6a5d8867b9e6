"""Callback that sees what `ReferenceModel` gave a batch, and what the policy says of the batch at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor


class ReferenceSpy(Callback):
    """Behind `ReferenceModel`: sees every batch as the step does, and what the policy says of it then.

    Args:
        act: is called with the module at the end of a step.
        step: which step; -1 = none.
    """

    def __init__(self, act: Callable[[Any], None] | None = None, step: int = -1) -> None:
        self.act, self.step = act, step
        self.batches: list[Any] = []
        self.validated: list[Any] = []
        self.policy: list[Tensor] = []
        self.losses: list[float] = []

    def scores(self, pl_module: Any, batch: Any) -> Tensor:
        """What the policy says of a batch."""
        raise NotImplementedError

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        with torch.no_grad(), trainer.precision_plugin.train_step_context():
            self.policy.append(self.scores(pl_module, batch))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step == self.step and self.act is not None:
            self.act(pl_module)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.validated.append(batch)

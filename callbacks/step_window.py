"""Sums over all micro-batches and ranks since the last logged step, for metrics whose ranks hold unequal shares."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor


class StepWindow:
    """Collects sums by name and gives them out, summed over ranks, at the steps on which the trainer logs.

    Ranks agree on the logged steps and must agree on the names, so that all of them enter the one reduction. All sums
    have the same length.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._logged = -1

    def start(self, trainer: Trainer) -> None:
        """Begin empty; a step is logged by the micro-batch that completes it."""
        self._sums, self._logged = {}, trainer.global_step

    def add(self, name: str, sums: Tensor) -> None:
        """Add a micro-batch's (k,) sums."""
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def due(self, trainer: Trainer) -> dict[str, Tensor]:
        """The (k,) sums over ranks and micro-batches by name, if this step is logged; else nothing."""
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not self._sums or step == self._logged or not every or step % every:
            return {}
        self._logged = step
        collected, self._sums = self._sums, {}
        sums = trainer.strategy.reduce(torch.stack(list(collected.values())), reduce_op="sum")
        return dict(zip(collected, sums, strict=True))

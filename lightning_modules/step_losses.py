"""The training losses as they are logged: those of a whole optimizer step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_modules.logged import forget
from lightning_modules.terms import Term

#: The logged name of the weighted sum; a term's loss is `train/loss/<term>`.
LOSS = "train/loss"


class StepLosses:
    """Mean losses of the optimizer step under way, over its micro-batches so far.

    A micro-batch's losses are divided by denominators of the whole step, so that only their mean says anything; the
    trainer logs what the last micro-batch hands it.
    """

    def __init__(self) -> None:
        self._step = -1
        #: One row a micro-batch: the loss, the loss of each term, and how many items each term had.
        self._rows: list[Tensor] = []

    def log(
        self,
        module: LightningModule,
        loss: Tensor,
        means: Mapping[str, Tensor],
        terms: Mapping[str, Term],
        batch_size: int,
    ) -> None:
        """Add a micro-batch and log `train/loss` and `train/loss/<term>`; all ranks call it together.

        A term without an item on any rank has no loss, and a step without any item none at all: a logged 0 would read
        as solved.

        Args:
            module: whose step it is, within `training_step`.
            loss: the weighted sum of `means`.
            means: term name -> the sum over the micro-batch's items, divided by the items of the whole step.
            terms: the terms, for their number of items.
            batch_size: samples in the micro-batch.
        """
        counts = [loss.new_tensor(float(len(terms[name].samples))) for name in means]
        row = torch.stack([loss, *means.values(), *counts]).detach()
        # The global step rises with the last micro-batch of a step: another number is the first of the next step.
        if module.global_step != self._step:
            self._step, self._rows = module.global_step, []
        self._rows.append(row)
        mean_row = torch.stack(self._rows).mean(0)
        # Of all ranks, so that they agree on what is logged: `sync_dist` is a collective.
        items = module.trainer.strategy.reduce(mean_row[1 + len(means) :], reduce_op="sum").tolist()
        names = [f"{LOSS}/{name}" for name in means]
        empty = {name for name, count in zip(names, items, strict=True) if not count}
        if len(empty) == len(names):
            empty.add(LOSS)
        losses = dict(zip([LOSS, *names], mean_row[: 1 + len(names)], strict=True))
        logged = {name: value for name, value in losses.items() if name not in empty}
        module.log_dict(logged, batch_size=batch_size, sync_dist=True)
        forget(module.trainer, empty)

"""The training losses as they are logged: those of a whole optimizer step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_modules.logged import forget
from lightning_modules.terms import Term

#: The logged name of the weighted sum; a term's loss is `train/loss/<term>`.
LOSS = "train/loss"


class StepLosses:
    """Mean losses of the optimizer step under way, over its micro-batches so far.

    A micro-batch's losses are divided by denominators of the whole step, so that only their mean says anything; the
    trainer writes what the last micro-batch hands it. Several ranks average theirs in one reduction, and only for a
    step that is written: each collective in each micro-batch makes all of them wait for the slowest.
    """

    def __init__(self) -> None:
        self._step = -1
        #: One row a micro-batch: the loss, and the loss of each term.
        self._rows: list[Tensor] = []
        #: Term -> its items on this rank in the step so far.
        self._items: dict[str, int] = {}
        #: Whether the latest micro-batch was logged, with those before it.
        self._logged = False

    def add(
        self, module: LightningModule, loss: Tensor, means: Mapping[str, Tensor], terms: Mapping[str, Term]
    ) -> None:
        """Add a micro-batch.

        Args:
            module: whose step it is, within `training_step`.
            loss: the weighted sum of `means`.
            means: term name -> the sum over the micro-batch's items, divided by the items of the whole step.
            terms: the terms, for their number of items.
        """
        # The global step rises with the last micro-batch of a step: another number is the first of the next step.
        if module.global_step != self._step:
            self._step, self._rows, self._items = module.global_step, [], dict.fromkeys(means, 0)
        self._rows.append(torch.stack([loss, *means.values()]).detach())
        for name in means:
            self._items[name] += len(terms[name].samples)
        self._logged = False

    def log(self, module: LightningModule, batch_size: int) -> None:
        """Log `train/loss` and `train/loss/<term>` where anything reads them; all ranks call it together.

        A term without an item on any rank has no loss, and a step without any item none at all: a logged 0 would read
        as solved.

        Args:
            module: whose step it is, within a hook of the training that may log.
            batch_size: samples in the micro-batch.
        """
        trainer = module.trainer
        if self._logged or not _are_read(trainer):
            return
        self._logged = True
        values, items = torch.stack(self._rows).mean(0), list(self._items.values())
        if trainer.world_size > 1:
            # Of all ranks, so that they agree on what is logged. A mean above 0 says that a rank has an item.
            both = torch.cat([values, values.new_tensor(items)])
            values, shares = trainer.strategy.reduce(both, reduce_op="mean").split([len(values), len(items)])
            items = shares.tolist()
        names = [f"{LOSS}/{name}" for name in self._items]
        empty = {name for name, count in zip(names, items, strict=True) if not count}
        if len(empty) == len(names):
            empty.add(LOSS)
        losses = dict(zip([LOSS, *names], values, strict=True))
        # All of them: Lightning keeps a value for each hook that logs, and one of another hook would hide this one.
        forget(trainer, losses.keys())
        logged = {name: value for name, value in losses.items() if name not in empty}
        module.log_dict(logged, batch_size=batch_size)


def _are_read(trainer: Trainer) -> bool:
    """Whether anything reads the losses of the step as they are after this micro-batch.

    A rank by itself has them at no cost. Of several, the last step of an epoch and of the run have theirs, too, for
    what looks at them then: checkpoints, progress, the summary of a run.
    """
    if trainer.world_size == 1:
        return True
    if trainer.fit_loop._should_accumulate():
        return False
    written = trainer._logger_connector.should_update_logs or bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
    return written or trainer.is_last_batch or trainer.global_step + 1 == trainer.max_steps

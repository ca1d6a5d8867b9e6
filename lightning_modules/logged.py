"""Logged values without waits, and metrics of a step that has none: an empty cell in place of the last step's value."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor


def as_logged(values: Mapping[str, float | Tensor]) -> dict[str, Tensor]:
    """Numbers as what Lightning makes of them, but on the CPU: it would copy each to the device, and wait for that.

    Args:
        values: metric -> its value; one that is a tensor stays where it is.
    """
    return {name: torch.as_tensor(value, dtype=torch.get_default_dtype()) for name, value in values.items()}


def forget(trainer: Trainer, names: Collection[str]) -> None:
    """Take metrics that an earlier step logged, and this one has no value for, out of what is logged now.

    Lightning keeps a metric's last value until the end of the epoch, and writes it again with every step that does not
    log it. There is no public way to take it back.

    Args:
        trainer: within a hook that may log.
        names: the metrics, as they were logged.
    """
    # Reading the property moves what is kept into the dictionary, from which it is taken then.
    kept = trainer.callback_metrics
    for metric in trainer._results.values() if trainer._results is not None else ():
        if metric.meta.name in names:
            metric.reset()
    for name in names:
        kept.pop(name, None)

"""Rewards of chosen and rejected, under the names that TRL made common."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import MeanMetric

from callbacks.step_window import StepWindow
from lightning_modules.preference import Term

Statistic = Literal["chosen", "rejected", "margins", "accuracies"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
#: The terms whose rewards are logged without a term's name too: a method has one of them.
MAIN_TERMS = ("response", "preference")


def reward_statistics(chosen_B: Tensor, rejected_B: Tensor, draw: float = 0.0) -> Tensor:  # noqa: N803
    """The four statistics of each item, in the order of `STATISTICS`.

    Args:
        chosen_B: (B,) rewards of what shall win, scaled by beta.
        rejected_B: (B,) rewards of what shall lose.
        draw: the accuracy of two equal rewards.

    Returns:
        (4, B) chosen, rejected, chosen - rejected, and 1 where chosen is larger, `draw` where they are equal, else 0.
    """
    margins = chosen_B - rejected_B
    accuracies = (margins > 0).to(margins.dtype) + draw * (margins == 0).to(margins.dtype)
    return torch.stack([chosen_B, rejected_B, margins, accuracies])


class PreferenceMetrics(Callback):
    """Logs rewards, margins and accuracies of every preference term from the steps' outputs.

    Names: `train/rewards/<term>/{chosen,rejected,margins,accuracies}` and the same under `val/`; those of the response
    term, or of a flow model's preference term, without a term's name as well. Rewards are scaled by beta, as TRL logs
    them (a `Term` holds them so, and says what a draw counts). Each is a mean over the items of all ranks (answers'
    samples, labelled frames), exact also when ranks hold unequal numbers of them; terms hold real samples only, so
    padding counts nowhere. A training value covers all micro-batches since the last logged one, a validation value the
    whole set. A term that met no sample is not logged.
    """

    def __init__(self) -> None:
        self._window = StepWindow()
        self._means: dict[str, list[MeanMetric]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with an empty window; a step is logged by the micro-batch that completes it."""
        self._window.start(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch to the window; on a step that is logged, log the window's means over all ranks."""
        for name, statistics in _statistics(outputs).items():
            count = statistics.new_full((1,), statistics.shape[1])
            self._window.add(name, torch.cat([statistics.sum(1), count]))
        for name, row in self._window.due(trainer).items():
            if items := int(row[-1]):
                pl_module.log_dict(_named("train", name, row[:-1] / items), batch_size=items)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation."""
        self._means = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the batch's samples to the means."""
        for name, statistics in _statistics(outputs).items():
            means = self._means.setdefault(name, [MeanMetric().to(statistics.device) for _ in STATISTICS])
            for mean, values in zip(means, statistics, strict=True):
                # The leading sample of weight 0 changes no mean, and a rank without a sample still takes part.
                padded = torch.cat([values.new_zeros(1), values])
                mean.update(padded, weight=(torch.arange(len(padded), device=padded.device) > 0).to(padded.dtype))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over all samples and ranks."""
        for name, means in self._means.items():
            values = torch.stack([mean.compute() for mean in means])
            if torch.isfinite(values).all():
                # Every rank holds the same value already: the second averaging changes nothing.
                pl_module.log_dict(_named("val", name, values), sync_dist=True, batch_size=1)


def _statistics(outputs: Any) -> dict[str, Tensor]:
    """Term name -> (4, n) statistics, of the terms that have a preference."""
    terms: dict[str, Term] = outputs["terms"]
    return {
        name: reward_statistics(term.chosen_rewards.detach().float(), term.rejected_rewards.detach().float(), term.draw)
        for name, term in terms.items()
        if term.chosen_rewards is not None and term.rejected_rewards is not None
    }


def _named(prefix: str, term: str, values: Tensor) -> dict[str, Tensor]:
    """The logged names of one term's four values."""
    names = [f"{prefix}/rewards/{term}"] + ([f"{prefix}/rewards"] if term in MAIN_TERMS else [])
    return {f"{name}/{key}": value for name in names for key, value in zip(STATISTICS, values, strict=True)}

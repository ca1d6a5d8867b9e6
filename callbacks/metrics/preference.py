"""Metrics of the rewards of chosen and rejected, under the names that TRL made common."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from callbacks.metrics.terms import TermMetrics
from lightning_modules.terms import Term

Statistic = Literal["chosen", "rejected", "margins", "accuracies"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
#: The terms whose rewards are logged without a term's name too: a method has one of them.
MAIN_TERMS = ("response", "preference")


def reward_statistics(chosen_B: Tensor, rejected_B: Tensor, draw: float = 0.0) -> Tensor:  # noqa: N803
    """The four statistics of each item, in the order of `STATISTICS`.

    Args:
        chosen_B: (B,) rewards of the preferred side, scaled by beta.
        rejected_B: (B,) rewards of the other side.
        draw: the accuracy of two equal rewards.

    Returns:
        (4, B) chosen, rejected, chosen - rejected, and 1 where chosen is larger, `draw` where they are equal, else 0.
    """
    margins = chosen_B - rejected_B
    accuracies = (margins > 0).to(margins.dtype) + draw * (margins == 0).to(margins.dtype)
    return torch.stack([chosen_B, rejected_B, margins, accuracies])


class PreferenceMetrics(TermMetrics):
    """Rewards, margins and accuracies of every preference term, from the outputs of the steps.

    Names: `train/rewards/<term>/{chosen,rejected,margins,accuracies}` and the same under `val/`; those of the response
    term, or of a flow model's preference term, without a term's name as well. Rewards are scaled by beta, as TRL logs
    them (a `Term` holds them so, and says what a draw counts). Each is a mean over the items of all ranks (answers'
    samples, labelled frames), exact also when ranks hold unequal numbers of them; terms hold real samples only, so
    padding counts nowhere. A training value covers all micro-batches since the last logged one, a validation value the
    whole set. A term that met no sample is not logged.
    """

    def sums(self, outputs: Any) -> dict[str, Tensor]:
        """Term name -> (5,): the four statistics added up, and how many items they are of."""
        terms: dict[str, Term] = outputs["terms"]
        sums = {}
        for name, term in terms.items():
            if term.chosen_rewards is not None and term.rejected_rewards is not None:
                chosen, rejected = term.chosen_rewards.detach().float(), term.rejected_rewards.detach().float()
                statistics = reward_statistics(chosen, rejected, term.draw)
                sums[name] = torch.cat([statistics.sum(1), statistics.new_full((1,), statistics.shape[1])])
        return sums

    def named(self, prefix: str, term: str, sums: Tensor) -> dict[str, float]:
        """The term's four means."""
        *totals, count = sums.tolist()
        # Not logged rather than NaN, which loggers and checkpoint selection would take for a value.
        if not count:
            return {}
        names = [f"{prefix}/rewards/{term}"] + ([f"{prefix}/rewards"] if term in MAIN_TERMS else [])
        means = {key: total / count for key, total in zip(STATISTICS, totals, strict=True)}
        return {f"{name}/{key}": mean for name in names for key, mean in means.items()}

"""Metrics that separate a healthy run of a flow model from a runaway; the loss alone shows little."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from callbacks.metrics.preference import reward_statistics
from callbacks.metrics.terms import TermMetrics
from lightning_modules.dense_dpo import FlowTerm
from lightning_modules.policies.transfer import sent

#: The quantiles of |z| that are logged, in per cent.
PERCENTS = (50, 90, 99)
#: Decades of |z| with bins of their own, and bins in each: a quantile is right to a tenth of itself.
_LOWEST, _HIGHEST, _PER_DECADE = -4, 4, 24


class FlowMetrics(TermMetrics):
    """Errors, saturation, and loss and accuracy by noise level, from the preference term of a flow model.

    Names, and the same under `val/`:

    - `train/error/{winner,loser}`: the velocity error of the better and of the worse video, policy minus reference,
      over preferred frames. The better one's must fall, or rise less; both rising on and on is a runaway.
    - `train/saturation`: the share of sigmoids with |z| above `bound`, which learn next to nothing more.
    - `train/logits/{q50,q90,q99}`: quantiles of |z|, the logits of the sigmoids. Values of 20 and more come before
      a loss that spikes.
    - `train/loss_by_time/0.0-0.2` and `train/accuracies_by_time/0.0-0.2`, for each bin of noise levels that was met.

    All are exact over ranks with unequal shares of ties, but for the quantiles, which come from bins a tenth wide. A
    training value covers all micro-batches since the last logged one, a validation value the whole set.

    Args:
        bound: |z| above which a sigmoid is saturated (ours: 5, where its gradient is below 1/100 of the largest).
        time_bins: equal bins of the noise level from 0 to 1.
    """

    def __init__(self, bound: float = 5.0, time_bins: int = 5) -> None:
        if bound <= 0 or time_bins < 1:
            raise ValueError(f"FlowMetrics: bound is {bound} and time_bins is {time_bins}; both must be positive")
        super().__init__()
        self.bound = bound
        self.time_bins = time_bins

    def sums(self, outputs: Any) -> dict[str, Tensor]:
        """Term name -> one vector of sums, in the order in which `named` splits it."""
        terms = {name: term for name, term in outputs["terms"].items() if isinstance(term, FlowTerm)}
        return {name: self._sums_of(term) for name, term in terms.items()}

    def _sums_of(self, term: FlowTerm) -> Tensor:
        assert term.chosen_rewards is not None
        assert term.rejected_rewards is not None
        assert term.times is not None
        assert term.winner_errors is not None
        assert term.loser_errors is not None
        winner, loser = term.winner_errors.detach().float(), term.loser_errors.detach().float()
        chosen, rejected = term.chosen_rewards.detach().float(), term.rejected_rewards.detach().float()
        accuracies = reward_statistics(chosen, rejected, term.draw)[-1]
        # A term's rewards differ by its logit z, as DPO's do.
        size = (chosen - rejected).abs()
        time_bin = (term.times * self.time_bins).long().clamp(0, self.time_bins - 1)
        bins = torch.nn.functional.one_hot(time_bin, self.time_bins).float()
        # Counts in bins add up over batches and ranks, which quantiles do not.
        sizes = torch.bucketize(size, sent(self._edges, size.device), right=True) - 1
        return torch.cat(
            [
                torch.stack([winner.new_full((), len(winner)), winner.sum(), loser.sum()]),
                torch.stack([size.new_full((), len(size)), (size > self.bound).float().sum()]),
                torch.stack([bins.sum(0), term.values.detach().float() @ bins, accuracies @ bins]).flatten(),
                torch.nn.functional.one_hot(sizes, len(self._edges)).float().sum(0),
            ]
        )

    def named(self, prefix: str, term: str, sums: Tensor) -> dict[str, float]:
        """The logged values; nothing where all were ties."""
        values = sums.tolist()
        frames, winner, loser, items, saturated = values[:5]
        by_time, sizes = values[5 : 5 + 3 * self.time_bins], values[5 + 3 * self.time_bins :]
        # Not logged rather than NaN: loggers and checkpoint selection would take NaN for a value.
        if not items:
            return {}
        metrics = {
            f"{prefix}/error/winner": winner / frames,
            f"{prefix}/error/loser": loser / frames,
            f"{prefix}/saturation": saturated / items,
        }
        metrics |= {f"{prefix}/logits/q{percent}": self._quantile(sizes, percent / 100) for percent in PERCENTS}
        counts, losses, accuracies = (by_time[i * self.time_bins : (i + 1) * self.time_bins] for i in range(3))
        for index, count in enumerate(counts):
            if count:
                span = f"{index / self.time_bins:.2g}-{(index + 1) / self.time_bins:.2g}"
                metrics[f"{prefix}/loss_by_time/{span}"] = losses[index] / count
                metrics[f"{prefix}/accuracies_by_time/{span}"] = accuracies[index] / count
        return metrics

    @cached_property
    def _edges(self) -> Tensor:
        """The lower edges of the bins of |z|: 0, then powers of ten."""
        count = (_HIGHEST - _LOWEST) * _PER_DECADE + 1
        return torch.cat([torch.zeros(1), torch.logspace(_LOWEST, _HIGHEST, count)])

    def _quantile(self, counts: list[float], share: float) -> float:
        """The |z| below which this share of them lies, evenly spread within its bin."""
        edges: list[float] = [*self._edges.tolist(), math.inf]
        left = share * sum(counts)
        for index, count in enumerate(counts):
            if left <= count:
                low, high = edges[index], edges[index + 1]
                return low if math.isinf(high) or not count else low + (high - low) * left / count
            left -= count
        return edges[-2]

"""Bases of the data modules of `predict`: every sample once over all ranks, without those that are done already."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np

from datamodules.shards.index import Index
from datamodules.stream.indexed_data import Paths, Split
from datamodules.stream.plan import EvalPlan, Positions
from datamodules.stream.planned_data import PlannedData, Selection, require_least

BatchT = TypeVar("BatchT")


class ContinuedData(PlannedData[BatchT]):
    """Data module whose `predict` split can be continued, a `SkippableData`: what is done already is left out."""

    _skipped: frozenset[str] = frozenset()

    @property
    def keys(self) -> list[str]:
        """The keys of all samples that `predict` reads, in order, whatever is skipped."""
        return self.index("predict").keys

    @property
    def fingerprint(self) -> str:
        """Of the index that the samples are read from."""
        return self.index("predict").fingerprint

    def skip(self, keys: Collection[str]) -> None:
        """Leave these samples out; called before the loader is made, alike on every rank. Replaces an earlier call.

        Args:
            keys: the samples' keys; unknown ones do nothing.
        """
        self._skipped = frozenset(keys)

    def remaining(self) -> Positions:
        """The positions of the samples that are not skipped."""
        return remaining(self.keys, self._skipped)

    def predict_dataloader(self) -> Any:
        """Every sample that is not skipped, once; an empty list where none is left."""
        # A plan without a sample is an error, and here it means that the run is over.
        return super().predict_dataloader() if len(self.remaining()) else []


class PredictData(ContinuedData[BatchT]):
    """Shards -> batches, each sample once, in the index's order.

    Args:
        predict: index file of the shards (``NAME.index.json``, a path or an http(s) or s3 address), or several.
        limit: only the first samples, for a quick look; null = all.
        options: those of `PlannedData` that do not concern training.
    """

    def __init__(self, predict: Paths, limit: int | None = None, **options: Any) -> None:
        # What is set here is no option of the command line: order and draws of a prediction are those of the index.
        super().__init__({"predict": predict}, seed=0, window=1, allow_changed=False, **options)
        if limit is not None:
            require_least(limit=(limit, 1))
        self.limit = limit

    @property
    def keys(self) -> list[str]:
        """The keys of all samples up to the limit, in order, whatever is skipped."""
        return super().keys[: self.limit]

    def check(self, split: Split, index: Index) -> None:
        """All that the index says was checked when the shards were made."""

    def selection(self, split: Split) -> Selection:
        """The samples up to the limit that are not done."""
        return Selection(keep=self.remaining())


def remaining(keys: Collection[str], skipped: Collection[str]) -> Positions:
    """The positions of the keys that are not skipped."""
    return np.array([position for position, key in enumerate(keys) if key not in skipped], dtype=np.int64)


def share_of(plan: EvalPlan) -> list[list[tuple[int, bool]]]:
    """One rank's batches of a plan as (position, mask) pairs, for sources that are not shards."""
    starts = range(0, len(plan) * plan.global_batch, plan.global_batch)
    return [[(slot.position, slot.mask) for slot in plan.batch(start).slots] for start in starts]

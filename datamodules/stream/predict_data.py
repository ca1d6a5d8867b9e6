"""Bases of the data modules of `predict`: every sample once over all ranks, without those that are done already."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from datamodules.shards.index import Index
from datamodules.stream.hand_out import HandOut, HandOutMode, is_by_need
from datamodules.stream.indexed_data import Paths, Split
from datamodules.stream.plan import EvalPlan, Positions
from datamodules.stream.planned_data import PlannedData, Selection, require_least
from datamodules.stream.ranks import rank_of

BatchT = TypeVar("BatchT")


class ContinuedData(PlannedData[BatchT]):
    """Data module whose `predict` split can be continued, a `SkippableData`: what is done already is left out.

    Args:
        paths: the index file, or several, of each split that the subclass has; None = not given.
        hand_out: how the ranks of a `predict` come by their samples. by_need: each takes the next batch when it has
            room for one, so that a slow rank or slow samples hold up nobody. equal_shares: every rank makes the same
            number of batches, padded; so also, whatever is set, under every strategy but DDP (the ranks of a sharded
            model make each batch together, and would wait for each other for ever) and with
            `trainer.limit_predict_batches`. What is made is the same.
        options: those of `PlannedData`.
    """

    _skipped: frozenset[str] = frozenset()

    def __init__(self, paths: dict[Split, Paths | None], hand_out: HandOutMode = "by_need", **options: Any) -> None:
        super().__init__(paths, **options)
        self.hand_out = hand_out

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
        if not len(self.remaining()):
            return []
        loader = super().predict_dataloader()
        if is_by_need(self.trainer, self.hand_out):
            # The batches of one rank, of which each takes some.
            loader.plan = replace(loader.plan, rank=0, world=1)
            loader.hand_out = HandOut.of_ranks(self.trainer, len(loader.plan))
        return loader


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


def batches_of(
    keys: Collection[str], skipped: Collection[str], batch_size: int, trainer: Any, mode: HandOutMode
) -> tuple[list[list[tuple[int, bool]]], HandOut | None]:
    """Batches of samples that are not in shards, as (position, mask) pairs.

    Args:
        keys: of all samples; at least one is not skipped.
        skipped: those that are left out.
        batch_size: samples per rank and batch.
        trainer: whose ranks share them; None = there is none.
        mode: how ranks come by their batches, see `ContinuedData`.

    Returns:
        This rank's batches, as many as every rank has, and None; or those of all ranks, and their hand-out.
    """
    by_need = is_by_need(trainer, mode)
    rank, world = (0, 1) if by_need else rank_of(trainer)
    # A plan counts in shards; a list of samples is one.
    plan = EvalPlan(
        shard_counts=[len(keys)], batch_size=batch_size, keep=remaining(keys, skipped), rank=rank, world=world
    )
    starts = range(0, len(plan) * plan.global_batch, plan.global_batch)
    batches = [[(slot.position, slot.mask) for slot in plan.batch(start).slots] for start in starts]
    return batches, HandOut.of_ranks(trainer, len(batches)) if by_need else None

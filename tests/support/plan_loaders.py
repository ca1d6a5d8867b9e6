"""Plans and loaders of small shards."""

from __future__ import annotations

from typing import Any

from datamodules.shards.index import Index
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import Plan, TrainPlan
from tests.support.shard_samples import Batch, KeyRecipe


def train(index: Index, **changes: Any) -> TrainPlan:
    return TrainPlan(**{"shard_counts": index.shard_counts, "batch_size": 2, "window": 2, "seed": 5, **changes})


def loader(index: Index, plan: Plan, **changes: Any) -> PlanLoader[Batch]:
    return PlanLoader(**{"plan": plan, "index": index, "recipe": KeyRecipe(), **changes})

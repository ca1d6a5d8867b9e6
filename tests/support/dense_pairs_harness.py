"""`DensePairs` of small shards, and its batches as plain values."""

from __future__ import annotations

from typing import Any

from datamodules.dense.batches import PairBatch
from datamodules.dense.dense_pairs import DensePairs
from datamodules.stream.loader import PlanLoader
from tests.support.flow_shards import LABELS, FlowShards

COUNT = 12
#: The keys that the filter lets through: one in six has no label that is no tie.
KEYS = [f"p{number:02d}" for number in range(COUNT) if any(LABELS[number % len(LABELS)])]


def dense(shards: FlowShards, **settings: Any) -> DensePairs:
    return DensePairs(shards.pairs, shards.labels, **({"batch_size": 2, "seed": 5} | settings))


def steps(data: DensePairs, batches: int) -> list[PairBatch]:
    loader: PlanLoader[PairBatch] = data.train_dataloader()
    read: list[PairBatch] = []
    while len(read) < batches:
        read += list(loader)
    return read[:batches]


def epoch_of(data: DensePairs) -> dict[str, tuple[PairBatch, int]]:
    """Key -> batch and place, of one pass over all that is taken."""
    return {key: (batch, place) for batch in data.train_dataloader() for place, key in enumerate(batch.keys)}


def labels_of(data: DensePairs) -> dict[str, tuple[list[int], int]]:
    return {key: (b.labels[row].tolist(), int(b.preference[row])) for key, (b, row) in epoch_of(data).items()}

"""The videos of pairs: every pair once, whole, without those that are labelled already."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from datamodules.dense.pair_videos import PairVideos
from datamodules.shards.index import Index
from tests.support.flow_shards import LABELS, pair_row
from tests.support.judged_pairs import videos, write_judged_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_judged_pairs(tmp_path_factory.mktemp("pairs"))


def data(pairs: str, rank: int = 0, world: int = 1, **settings: Any) -> PairVideos:
    module = PairVideos(pairs, **settings)
    share = {"num_replicas": world, "rank": rank}
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(distributed_sampler_kwargs=share, strategy=strategy)  # type: ignore[assignment]
    module.setup("predict")
    return module


def test_both_videos_come_whole_with_their_row(pairs: str) -> None:
    (batch,) = list(data(pairs, batch_size=5).predict_dataloader())
    assert batch.keys == [f"p{number:02d}" for number in range(5)]
    assert batch.mask.tolist() == [True] * 5
    for number, row in enumerate(batch.rows):
        assert row == pair_row(row.key, seeds=(number, number + 100))
        first, second = videos(row, LABELS[number])
        assert torch.equal(batch.first[number], first)
        assert torch.equal(batch.second[number], second)


def test_limit_and_labelled_pairs_are_left_out(pairs: str) -> None:
    module = data(pairs, limit=4)
    assert module.keys == ["p00", "p01", "p02", "p03"]
    assert module.fingerprint == Index.read(pairs).fingerprint
    module.skip(["p00", "p02", "p04"])
    assert module.keys == ["p00", "p01", "p02", "p03"]
    assert [row.key for row in module.rows(skipped=False)] == ["p01", "p03"]
    assert [row.key for row in module.rows()] == module.keys
    assert [key for batch in module.predict_dataloader() for key in batch.keys] == ["p01", "p03"]
    module.skip(module.keys)
    assert module.rows(skipped=False) == []


def test_two_ranks_share_the_pairs_and_pad_the_last_batch(pairs: str) -> None:
    ranks = [list(data(pairs, rank, 2, batch_size=1).predict_dataloader()) for rank in (0, 1)]
    assert [len(batches) for batches in ranks] == [3, 3]
    seen = [
        key for batches in ranks for batch in batches for key, real in zip(batch.keys, batch.mask, strict=True) if real
    ]
    assert sorted(seen) == [f"p{number:02d}" for number in range(5)]
    padding = ranks[1][-1]
    assert padding.mask.tolist() == [False]
    assert padding.first[0].shape == (0, 3, 16, 32)


def test_latents_are_not_read(pairs: str) -> None:
    assert data(pairs).recipe("predict").members(0) == ("json", "first.mp4", "second.mp4")

"""Batches by need: each once over all ranks, more of them to a faster rank, and equal shares where that is not safe."""

from __future__ import annotations

import heapq
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch.distributed import HashStore

from datamodules.annotation.answered_videos import AnsweredBatches, AnsweredLoader
from datamodules.dense.prompts import Prompts
from datamodules.shards.index import Index
from datamodules.stream import hand_out
from datamodules.stream.hand_out import HandOut, is_by_need
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import EvalPlan
from datamodules.stream.predict_data import batches_of
from lightning_modules.strategies import AdapterFSDP
from tests.support.plan_loaders import loader
from tests.support.shard_samples import Batch


def taken_by(ranks: list[Any], seconds: list[int]) -> list[list[Any]]:
    """What each rank takes when it needs so many seconds for each."""
    taken: list[list[Any]] = [[] for _ in ranks]
    sources = [iter(rank) for rank in ranks]
    free = [(0, rank) for rank in range(len(ranks))]
    while free:
        now, rank = heapq.heappop(free)
        for item in sources[rank]:
            taken[rank].append(item)
            heapq.heappush(free, (now + seconds[rank], rank))
            break
    return taken


def test_a_slow_rank_gets_fewer_batches_and_each_comes_once() -> None:
    store = HashStore()
    fast, slow = taken_by([HandOut(12, store, "pass") for _ in range(2)], [1, 5])
    assert fast == [0, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert slow == [1, 7]
    assert list(HandOut(3, store, "the next pass")) == [0, 1, 2], "counted from 0 again"


def test_batches_are_counted_when_they_are_made() -> None:
    ranks = [HandOut(3, HashStore(), "pass")] * 2
    first = ranks[0].counted("batches")
    assert (next(first), ranks[1].made) == ("b", 0)
    assert (next(first), ranks[1].made) == ("a", 1)


def test_two_ranks_read_the_batches_of_one(index: Index) -> None:
    store, plan = HashStore(), EvalPlan(shard_counts=index.shard_counts, batch_size=2)
    whole: list[Batch] = list(loader(index, plan))
    ranks: list[PlanLoader[Batch]] = [loader(index, plan, hand_out=HandOut(12, store, "pass")) for _ in range(2)]
    assert [len(rank) for rank in ranks] == [12, 12]
    fast, slow = taken_by(ranks, [1, 5])
    assert (len(fast), len(slow)) == (10, 2)
    by_first = {batch.keys[0]: batch for batch in fast + slow}
    assert [by_first[batch.keys[0]] for batch in whole] == whole
    assert [(rank.consumed, HandOut(12, store, "pass").made) for rank in ranks] == [(20, 12), (4, 12)]


def test_prompts_and_rows_are_taken_by_need_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store, counts = HashStore(), list[int]()

    def of_ranks(of: Any, batches: int) -> HandOut:
        counts.append(batches)
        return HandOut(batches, store, "pass")

    monkeypatch.setattr(HandOut, "of_ranks", of_ranks)
    (tmp_path / "prompts.txt").write_text("one\ntwo\nthree\nfour\n")
    ranks = [Prompts(str(tmp_path / "prompts.txt"), num_samples=3, batch_size=2) for _ in range(2)]
    for prompts in ranks:
        prompts.trainer = trainer(DDPStrategy())
        prompts.setup("predict")
        prompts.skip(prompts.keys[:1])
    fast, slow = taken_by([prompts.predict_dataloader() for prompts in ranks], [1, 3])
    assert counts == [6, 6]
    assert (len(fast), len(slow)) == (4, 2)
    real = [key for batch in fast + slow for key, mask in zip(batch.keys, batch.mask, strict=True) if mask]
    assert Counter(real) == Counter(ranks[0].keys[1:])

    rows = AnsweredBatches([[], [], [], []], num_frames=2, skip_bad=False)
    data: Any = SimpleNamespace(num_workers=0, bad_samples={})
    loaders = [AnsweredLoader(rows, data, HandOut(4, store, "another pass")) for _ in range(2)]
    assert [len(taken) for taken in taken_by(loaders, [1, 3])] == [3, 1]


@pytest.mark.slow
def test_workers_begin_with_no_more_batches_than_there_are_workers(index: Index) -> None:
    store, plan = HashStore(), EvalPlan(shard_counts=index.shard_counts, batch_size=1)
    hand_outs = [HandOut(23, store, "pass") for _ in range(2)]
    slow = iter(loader(index, plan, hand_out=hand_outs[0], num_workers=2, prefetch_factor=5))
    held = [next(slow)]
    fast: list[Batch] = list(loader(index, plan, hand_out=hand_outs[1]))
    assert len(fast) == 20, "one is in the slow one's hands, two in its workers'"
    held += slow
    keys = [key for batch in fast + held for key in batch.keys]
    assert sorted(keys) == [entry.key for entry in index.entries], "each once"


def trainer(strategy: Any, world: int = 2, limit: Any = 1.0) -> Any:
    share = {"num_replicas": world, "rank": 1}
    return SimpleNamespace(strategy=strategy, distributed_sampler_kwargs=share, limit_predict_batches=limit)


def test_ranks_have_equal_shares_where_they_need_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(hand_out, "rank_zero_info", said.append)
    assert is_by_need(trainer(DDPStrategy()), "by_need")
    assert not is_by_need(trainer(DDPStrategy()), "equal_shares")
    assert not is_by_need(trainer(DDPStrategy(), world=1), "by_need")
    assert not is_by_need(None, "by_need")
    assert said == [], "these do as they were set"
    other = object.__new__(DeepSpeedStrategy)  # whose constructor needs the package
    for strategy in (AdapterFSDP(), other):
        assert not is_by_need(trainer(strategy), "by_need")
    for limit in (1, 3, 0.5):
        assert not is_by_need(trainer(DDPStrategy(), limit=limit), "by_need")
    equal = "predict: each rank makes an equal share of the samples, not by need: "
    assert said == [
        *(f"{equal}under {name} ranks may make each batch together" for name in ("AdapterFSDP", "DeepSpeedStrategy")),
        *[f"{equal}trainer.limit_predict_batches counts the batches of each rank"] * 3,
    ]
    # Two batches on each of three ranks, which have four samples: this one's second is padding.
    batches, numbers = batches_of("abcde", "b", 1, trainer(AdapterFSDP(), world=3), "by_need")
    assert (batches, numbers) == ([[(2, True)], [(4, False)]], None)

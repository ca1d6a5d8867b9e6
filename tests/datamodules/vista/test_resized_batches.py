"""Batches whose frames a policy makes small: in the workers, after everything that looks at source frames."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.vista.vista_pairs import VistaPairs
from tests.support.halved_frames import Halved
from tests.support.pairs_harness import COUNT, attached, eleven_samples, frames_by_key, pairs


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eleven_samples(tmp_path_factory.mktemp("shards"))


def small(shards: Path, **settings: Any) -> VistaPairs:
    """For a policy that sees every second pixel."""
    data = attached(pairs(shards, batch_size=3, **settings))
    data.active_trainer.lightning_module.policy.frame_resizer = Halved
    return data


def test_frames_are_those_of_the_samples_made_small(shards: Path) -> None:
    plain = frames_by_key([*attached(pairs(shards, batch_size=1)).train_dataloader()])
    resized = frames_by_key([*(loader := small(shards).train_dataloader()), *loader, *loader, *loader])
    assert resized.keys() == plain.keys()
    assert len({key for key, _ in plain}) == COUNT
    for name, frames in plain.items():
        assert torch.equal(resized[name], frames[..., ::2, ::2])


@pytest.mark.parametrize("data_of", [small, lambda shards: attached(pairs(shards, batch_size=3))])
def test_a_batch_carries_every_distinct_frame_once(data_of: Any, shards: Path) -> None:
    for batch in data_of(shards).train_dataloader():
        pools = {id(view.pool): view.pool for view in batch.views}
        assert len(pools) == 1  # the videos are of one size
        (pool,) = pools.values()
        assert len({frame.numpy().tobytes() for frame in pool}) == len(pool)
        assert len(pool) < 0.7 * sum(view.num_frames for view in batch.views)


def test_the_resizer_goes_to_the_workers(shards: Path) -> None:
    recipe = pickle.loads(pickle.dumps(small(shards).recipe("train")))  # noqa: S301
    assert recipe.resize == Halved()
    # Of a policy that says nothing of the sort, frames travel as they are.
    assert attached(pairs(shards)).recipe("train").resize is None

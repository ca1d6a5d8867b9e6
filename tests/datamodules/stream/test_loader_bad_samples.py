"""Samples that cannot be used: they stop the run, or are masked and counted."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from datamodules.shards.byte_reader import BadSampleError
from datamodules.shards.index import Index
from datamodules.stream.recipe import SampleRead
from tests.support.plan_loaders import loader, train
from tests.support.shard_samples import KeyRecipe, flip_byte, small_shards


class Undecodable(KeyRecipe):
    """Two samples cannot be decoded."""

    def make_sample(self, sample: SampleRead) -> str:
        if sample.entry.key in ("s003", "s010"):
            raise ValueError("undecodable video")
        return sample.entry.key


@pytest.mark.parametrize("workers", [0, 2])
def test_altered_bytes_stop_the_run_naming_shard_and_key(tmp_path: Path, workers: int) -> None:
    index = small_shards(tmp_path)
    flip_byte(index, 7)
    with pytest.raises(BadSampleError, match=r"train-000001.tar: sample 's007': .mp4 was altered"):
        list(loader(index, train(index, batch_size=11), num_workers=workers))


def test_an_undecodable_video_stops_the_run_naming_shard_and_key(index: Index) -> None:
    with pytest.raises(BadSampleError, match=r"train-00000\d.tar: sample 's0\d\d': undecodable video"):
        list(loader(index, train(index), recipe=Undecodable()))


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_samples_are_masked_counted_and_kept_in_the_state(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    index = small_shards(tmp_path)
    flip_byte(index, 7, "json")
    settings = {"recipe": Undecodable(), "num_workers": workers, "on_bad_sample": "skip", "max_bad_samples": 3}
    plan_loader = loader(index, train(index, batch_size=1), **settings)
    with caplog.at_level(logging.WARNING):
        batches = [batch for _ in range(2) for batch in plan_loader]
    read = Counter(key for batch in batches for key in batch.keys)
    assert read[None] == 6
    assert set(plan_loader.bad_samples) == {"s003", "s007", "s010"}
    assert "sample 's007': .json was altered" in plan_loader.bad_samples["s007"]
    assert len(caplog.records) == 3, "once each"
    again = loader(index, train(index, batch_size=1), **settings)
    again.resume(plan_loader.progress())
    assert again.bad_samples == plan_loader.bad_samples


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_samples_stop_the_run(index: Index, workers: int) -> None:
    settings = {"recipe": Undecodable(), "num_workers": workers, "on_bad_sample": "skip", "max_bad_samples": 1}
    with pytest.raises(BadSampleError, match=r"2 samples are bad, max_bad_samples allows 1:\n.*sample 's0.*\n.*sample"):
        list(loader(index, train(index), **settings))


def test_a_mistake_in_the_code_is_not_a_bad_sample(index: Index) -> None:
    class Broken(KeyRecipe):
        def make_sample(self, sample: SampleRead) -> str:
            raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        list(loader(index, train(index), recipe=Broken(), on_bad_sample="skip"))

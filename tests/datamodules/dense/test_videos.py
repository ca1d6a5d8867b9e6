"""The data modules of `predict`: every video and every prompt once over ranks, without what is done already."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

from callbacks.writers.shards import ShardWriter
from datamodules.dense.batches import VideoBatch
from datamodules.dense.dense_pairs import DensePairs
from datamodules.dense.facts import pair_row
from datamodules.dense.rows import VideoRow
from datamodules.dense.videos import Videos
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict.guided_sampler import GuidedSampler
from tests.support.flow_harness import FlowRecorder, attached
from tests.support.flow_shards import write_labels
from tests.support.predict_fakes import trainer_with
from tests.support.quiet_trainer import quiet_trainer
from tests.support.shown_videos import plain_video
from tests.support.tiny_wan import TEXT_WIDTH, write_tiny_wan

VIDEO = VideoFacts(5, 8.0, 16, 16)


def frames(number: int) -> torch.Tensor:
    return torch.full((5, 3, 16, 16), 10 * number, dtype=torch.uint8)


def sample(number: int, video: bytes | None = None) -> tuple[str, dict[str, bytes]]:
    row = VideoRow(f"v{number}", f"v{number}.mp4", f"Caption {number}.", VIDEO, "test", {"motion": 0.1})
    content = encode_mp4(frames(number), 8, lossless=True) if video is None else video
    return row.key, {"mp4": content, "json": json.dumps(row.to_json()).encode()}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Seven videos."""
    prefix = tmp_path_factory.mktemp("videos") / "train"
    write_shards((sample(number) for number in range(7)), prefix, "vidpref/videos", samples_per_shard=3)
    return f"{prefix}.index.json"


def batches(data: Any, rank: int = 0, world: int = 1) -> list[Any]:
    """One rank's batches, as a trainer on it would ask for them."""
    share = {"num_replicas": world, "rank": rank}
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(distributed_sampler_kwargs=share, strategy=strategy)
    data.setup("predict")
    return list(data.predict_dataloader())


def seen(read: list[Any]) -> list[str]:
    return [key for batch in read for key, real in zip(batch.keys, batch.mask.tolist(), strict=True) if real]


def test_every_video_comes_whole_with_its_row(shards: str) -> None:
    read = batches(Videos(shards, batch_size=2))
    assert [len(batch.keys) for batch in read] == [2, 2, 2, 2]
    assert seen(read) == [f"v{number}" for number in range(7)]
    assert read[-1].mask.tolist() == [True, False]
    for batch in read:
        assert isinstance(batch, VideoBatch)
        for row, video, real in zip(batch.rows, batch.frames, batch.mask.tolist(), strict=True):
            assert video.shape == (5, 3, 16, 16)
            if real:
                assert torch.equal(video, frames(int(row.key[1:])))
                assert row.caption == f"Caption {row.key[1:]}."
                assert row.scores == {"motion": 0.1}


@pytest.mark.parametrize("skipped", [set(), {"v0", "v4", "none"}])
def test_ranks_share_what_is_left_and_have_equally_many_batches(shards: str, skipped: set[str]) -> None:
    ranks = []
    for rank in range(3):
        data = Videos(shards)
        data.setup("predict")
        data.skip(skipped)
        ranks.append(batches(data, rank, 3))
    assert len({len(rank) for rank in ranks}) == 1
    every = sorted(key for rank in ranks for key in seen(rank))
    assert every == sorted({f"v{number}" for number in range(7)} - skipped)


def test_a_limit_counts_from_the_start_whatever_is_skipped(shards: str) -> None:
    data = Videos(shards, limit=3)
    data.setup("predict")
    data.skip(["v0"])
    assert data.keys == ["v0", "v1", "v2"]
    assert seen(batches(data)) == ["v1", "v2"]
    data.skip(data.keys)
    assert batches(data) == []
    with pytest.raises(ValueError, match=r"data\.limit is 0"):
        Videos(shards, limit=0)


def test_a_bad_video_stops_the_run_or_is_passed_over(tmp_path: Path) -> None:
    samples = [sample(0), sample(1, b"no video"), sample(2)]
    write_shards(samples, tmp_path / "bad", "vidpref/videos")
    path = str(tmp_path / "bad.index.json")
    with pytest.raises(ValueError, match=r"bad-000000\.tar: sample 'v1': undecodable"):
        batches(Videos(path))
    data = Videos(path, batch_size=3, on_bad_sample="skip")
    (batch,) = batches(data)
    assert batch.mask.tolist() == [True, False, True]
    assert batch.frames[1].shape == (5, 3, 16, 16)
    assert (batch.rows[1].key, batch.rows[1].caption) == ("v1", "-")
    assert list(data.bad_samples) == ["v1"]


def test_a_video_that_is_shown_at_another_size_than_its_row_says_is_refused(tmp_path: Path) -> None:
    """Version 0.1.0 took all pixels for square."""
    wide = plain_video((100, 90, 200), (16, 8), Fraction(2))
    row = VideoRow("v0", "v0.mp4", "Caption.", replace(VIDEO, frames=4, width=8), "test", {})
    members = {"mp4": wide, "json": json.dumps(row.to_json()).encode()}
    write_shards([("v0", members)], tmp_path / "former", "vidpref/videos")
    with pytest.raises(ValueError, match=r"sample 'v0': \.mp4: is shown at 16 x 16, the index says 8 x 16.*prepare it"):
        batches(Videos(str(tmp_path / "former.index.json")))


def test_shards_of_another_kind_and_another_verb_are_refused(shards: str) -> None:
    with pytest.raises(ValueError, match="Videos has no samples for `fit`"):
        Videos(shards).setup("fit")
    with pytest.raises(ValueError, match="no such index"):
        Videos("none.index.json").setup("predict")


class _Watch(LightningModule):
    """Notes the keys that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def predict_step(self, batch: VideoBatch, batch_idx: int) -> list[str]:
        self.seen += [row.key for row, real in zip(batch.rows, batch.mask, strict=True) if real]
        return []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_predicts_over_it(shards: str, tmp_path: Path, workers: int) -> None:
    module = _Watch()
    trainer = quiet_trainer(use_distributed_sampler=False, default_root_dir=tmp_path)
    data = Videos(shards, batch_size=2, num_workers=workers)
    trainer.predict(module, data, return_predictions=False)
    assert module.seen == [f"v{number}" for number in range(7)]
    data.skip(module.seen)
    trainer.predict(module, data, return_predictions=False)
    assert len(module.seen) == 7


def test_a_prefix_stands_before_every_key_alike_for_writer_and_rows(shards: str) -> None:
    data = Videos(shards, batch_size=3, key_prefix="more-")
    read = batches(data)
    assert seen(read) == data.keys == [f"more-v{number}" for number in range(7)]
    assert [row.key for batch in read for row in batch.rows] == [key for batch in read for key in batch.keys]
    assert {row.video_id for batch in read for row in batch.rows} == {f"v{number}.mp4" for number in range(7)}
    assert data.fingerprint == Index.read(shards).fingerprint
    data.skip(["more-v0", "v1"])
    assert seen(batches(data)) == data.keys[1:]
    with pytest.raises(ValueError, match=r"data\.key_prefix is 'a\.b': has a dot"):
        Videos(shards, key_prefix="a.b")


def test_a_second_set_of_the_same_videos_is_trained_on_beside_the_first(tmp_path: Path) -> None:
    write_shards((sample(number) for number in range(2)), tmp_path / "videos", "vidpref/videos")
    policy = WanPolicy(str(write_tiny_wan(tmp_path / "wan")), prompt_length=32)
    made = []
    for name, prefix in (("one", ""), ("more", "more-")):
        trainer = trainer_with([ShardWriter(str(tmp_path / name))])
        trainer.predict(GuidedSampler(policy, num_steps=2), Videos(f"{tmp_path}/videos.index.json", key_prefix=prefix))
        pairs = f"{tmp_path}/{name}.index.json"
        made.append((pairs, write_labels(pairs, [(1,)], f"labels-{name}")))
    paths, labels = map(list, zip(*made, strict=True))
    settings = {"space": policy.latent_space, "prompt_shapes": {"embeds": (32, TEXT_WIDTH)}}
    data = attached(DensePairs(paths, labels, batch_size=4), FlowRecorder(**settings))
    (batch,) = data.train_dataloader()
    assert sorted(batch.keys) == ["more-v0", "more-v1", "v0", "v1"]
    first = dict(zip(batch.keys, batch.first, strict=True))
    assert not torch.equal(first["v0"], first["more-v0"]), "another key has other draws"
    rows = [pair_row(entry.key, entry.facts) for entry in data.index("train").entries]
    assert {row.prompt_shapes["embeds"] for row in rows} == {tuple(prompt["embeds"].shape) for prompt in batch.prompts}

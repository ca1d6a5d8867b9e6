from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.dense.dense_pairs import DensePairs
from datamodules.dense.latents import Latents
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.video.facts import VideoFacts
from tests.support.flow_harness import FlowRecorder, attached
from tests.support.flow_shards import SPACE, pair_row, pair_sample, random_tensors, write_latents, write_pairs
from tests.support.pairs_harness import trainer
from tests.support.shard_samples import flip_byte

KEYS = [f"v{number:02d}" for number in range(10)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_latents(tmp_path_factory.mktemp("latents"))


def supervised() -> FlowRecorder:
    return FlowRecorder({"supervised": "samples"})


def latents(train: str | list[str], **settings: Any) -> Latents:
    return Latents(train, **({"batch_size": 5, "seed": 5} | settings))


def test_a_batch_holds_what_the_shards_hold(videos: str) -> None:
    data = attached(latents(videos), supervised())
    seen = []
    for batch in data.train_dataloader():
        for place, key in enumerate(batch.keys):
            assert torch.equal(batch.clean[place], random_tensors(key, "clean", *batch.clean.shape[1:]))
            prompt = batch.prompts[place]["embeds"]
            assert torch.equal(prompt, random_tensors(key, "prompt", *prompt.shape))
            assert torch.equal(batch.noise[place], data.draw.noise(key, 0, batch.clean.shape[1:]))
            assert batch.t[place] == torch.tensor(data.draw.time(key, 0), dtype=torch.float32)
        assert batch.denominators == {"supervised": 5.0}
        assert batch.mask.all()
        seen += batch.keys
    assert sorted(seen) == KEYS


def test_time_and_noise_are_those_of_pairs_with_the_same_key_and_seed(videos: str) -> None:
    assert latents(videos).draw == DensePairs(videos, videos, seed=5).draw
    plain, spread = ({key: (epoch, t, noise) for epoch, keys, ts, noises, _ in seen
                      for key, t, noise in zip(keys, ts, noises, strict=True)}
                     for seen in (fitted(videos), fitted(videos, batch_size=2, num_workers=2)))  # fmt: skip
    assert plain == spread


def fitted(videos: str, **settings: Any) -> list[tuple[Any, ...]]:
    module = supervised()
    data = attached(latents(videos, **settings), module)
    for number, batch in enumerate(data.train_dataloader()):
        module.training_step(batch, number)
    return module.seen


def test_dropped_prompts_have_no_tokens_and_are_drawn_by_the_key(videos: str) -> None:
    def dropped(**settings: Any) -> set[str]:
        seen = set()
        for batch in attached(latents(videos, **settings), supervised()).train_dataloader():
            seen |= {key for key, prompt in zip(batch.keys, batch.prompts, strict=True) if not len(prompt)}
        return seen

    some = dropped(drop_prompts=0.5)
    assert 0 < len(some) < len(KEYS)
    assert dropped(drop_prompts=0.5, batch_size=2) == some
    assert dropped(drop_prompts=0.5, seed=6) != some
    assert (dropped(), dropped(drop_prompts=1.0)) == (set(), set(KEYS))
    data = attached(latents(videos, val=videos, drop_prompts=1.0), supervised())
    assert all(len(prompt) for batch in data.val_dataloader() for prompt in batch.prompts)
    with pytest.raises(ValueError, match=r"drop_prompts is 1\.5"):
        latents(videos, drop_prompts=1.5)


def test_pairs_give_the_real_videos_that_they_store(tmp_path: Path) -> None:
    data = attached(latents(write_pairs(tmp_path, 5, clean=True)), supervised())
    (batch,) = data.train_dataloader()
    for place, key in enumerate(batch.keys):
        assert torch.equal(batch.clean[place], random_tensors(key, "clean", *batch.clean.shape[1:]))
    without = write_pairs(tmp_path, 2, "without")
    message = r"without-000000\.tar: sample 'p00': .*not 'clean'.*store_clean"
    with pytest.raises(ValueError, match=message):
        attached(latents(without), supervised())
    flip_byte(Index.read(without), 0, "latents.safetensors")
    attached(latents(without), supervised())


def test_a_resumed_fit_goes_on_with_the_next_video(videos: str, tmp_path: Path) -> None:
    whole, first, second = supervised(), supervised(), supervised()
    settings = {"val": videos, "batch_size": 2}
    trainer(tmp_path, max_steps=9).fit(whole, latents(videos, **settings))
    checkpoint = ModelCheckpoint(tmp_path, filename="middle", every_n_train_steps=4, save_top_k=-1)
    trainer(tmp_path, max_steps=4, enable_checkpointing=True, callbacks=[checkpoint]).fit(
        first, latents(videos, **settings)
    )
    trainer(tmp_path, max_steps=9).fit(second, latents(videos, **settings), ckpt_path=tmp_path / "middle.ckpt")
    assert first.seen + second.seen == whole.seen
    assert sorted({key for key, _ in whole.validated}) == KEYS
    with pytest.raises(ValueError, match=r"cannot resume.*time was"):
        trainer(tmp_path, max_steps=9).fit(
            supervised(), latents(videos, logit_mean=0.5), ckpt_path=tmp_path / "middle.ckpt"
        )


def test_the_last_batch_is_filled_with_blanks(videos: str) -> None:
    data = attached(Latents(val=videos, batch_size=4), supervised(), stage="validate", rank=2, world=3)
    (batch,) = data.val_dataloader()
    assert batch.keys[:3] == ["v02", "v05", "v08"]
    assert batch.mask.tolist() == [True, True, True, False]
    assert not batch.clean[3].any()
    assert not batch.prompts[3]["embeds"].any()
    assert [prompt["embeds"].shape[1] for prompt in batch.prompts] == [6] * 4
    assert batch.denominators == {"supervised": pytest.approx(10 / 3)}


def test_what_does_not_fit_is_told_before_training(videos: str, tmp_path: Path) -> None:
    other = FlowRecorder({"supervised": "samples"}, replace(SPACE, name="another"))
    with pytest.raises(ValueError, match=r"latents-000000\.tar: sample 'v00' \(and 9 others\).*another autoencoder"):
        attached(latents(videos), other)
    with pytest.raises(ValueError, match=r"terms \{'preference': 'decided_frames'\} are of labelled pairs"):
        attached(latents(videos), FlowRecorder({"preference": "decided_frames"}))
    with pytest.raises(ValueError, match=r"data\.time_range is \[0, 1\]"):
        attached(latents(videos), FlowRecorder({"supervised": "samples"}, times=(0.0, 0.9)))
    large = write_latents(tmp_path, 2, video=VideoFacts(13, 4.0, 64, 16))
    with pytest.raises(ValueError, match="have the same keys"):
        attached(latents([videos, large]), supervised())
    key, members = pair_sample(pair_row("p00", video=VideoFacts(13, 4.0, 64, 16)), clean=True)
    write_shards([(key, members)], tmp_path / "one", "vidpref/pairs")
    mixed = [write_pairs(tmp_path, 1, "small", clean=True, prefix="q"), str(tmp_path / "one.index.json")]
    with pytest.raises(ValueError, match="latents of 2 shapes"):
        attached(latents(mixed), supervised())
    assert attached(latents(mixed, batch_size=1), supervised()).val_dataloader() == []


def test_what_workers_get_can_be_sent_to_a_spawned_process(videos: str) -> None:
    loader = attached(latents(videos), supervised()).train_dataloader()
    recipe = pickle.loads(pickle.dumps(loader.recipe))  # noqa: S301
    assert recipe.members(0) == ("latents.safetensors", "prompt.safetensors")

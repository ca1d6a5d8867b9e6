"""Real shards of videos -> shards of latents, through the data module and the writer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from callbacks.writers.shards import ShardWriter
from datamodules.dense.rows import LatentRow
from datamodules.dense.videos import Videos
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import encode_mp4
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict.video_encoder import VideoEncoder
from tests.support.predict_fakes import MemoryVideos, predict
from tests.support.tiny_wan import random_video, write_tiny_wan

VIDEOS = {key: random_video(5, 16, 32, seed=number) for number, key in enumerate(["a", "b", "c"])}


def write_videos(output: Path) -> str:
    source = MemoryVideos(VIDEOS)
    samples = [
        (key, {"mp4": encode_mp4(frames, 8.0, lossless=True), "json": json.dumps(source.row(key).to_json()).encode()})
        for key, frames in VIDEOS.items()
    ]
    write_shards(samples, output, "vidpref/videos")
    return f"{output}.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    write_tiny_wan(folder / "wan")
    policy = WanPolicy(str(folder / "wan"), prompt_length=32)
    data = Videos(write_videos(folder / "videos"), batch_size=2)
    predict(ShardWriter(str(folder / "latents")), VideoEncoder(policy), data)
    assert policy.model is None, "encoding needs no transformer"
    return folder


def test_latents_and_prompts_are_those_of_the_policy(folder: Path) -> None:
    index = Index.read(folder / "latents.index.json", "vidpref/latents")
    assert [entry.key for entry in index.entries] == list(VIDEOS)
    policy = WanPolicy(str(folder / "wan"), prompt_length=32)
    for position, (key, frames) in enumerate(VIDEOS.items()):
        members = SampleReader(index).read(position)
        row = LatentRow.from_json(json.loads(members["json"]))
        assert row.faults() == []
        assert (row.key, row.caption, row.source) == (key, f"a pattern called {key}", "made up")
        assert row.latent_space == policy.latent_space
        stored = load(members["latents.safetensors"])["clean"]
        assert tuple(stored.shape) == row.latent_shape == (4, 2, 2, 4)
        assert stored.dtype == torch.float32
        assert torch.equal(stored, policy.encode_video([frames])[0])
        assert torch.equal(
            load(members["prompt.safetensors"])["embeds"], policy.encode_prompt([row.caption])[0]["embeds"]
        )


def test_the_index_says_what_the_latents_are_made_from(folder: Path) -> None:
    made: Any = Index.read(folder / "latents.index.json").made_from
    assert made["fingerprint"] == Index.read(folder / "videos.index.json").fingerprint
    assert made["policy"]["path"] == str(folder / "wan")
    assert made["latent_space"]["spatial_ratio"] == 8
    assert made["policy"]["contents"].keys() == {"path"}


def test_a_base_that_was_replaced_in_place_is_refused(folder: Path) -> None:
    """The text encoder's embeddings, of which nothing else of the settings tells."""
    weights = folder / "wan/text_encoder/model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    data = Videos(str(folder / "videos.index.json"), batch_size=2)
    module = VideoEncoder(WanPolicy(str(folder / "wan"), prompt_length=32))
    try:
        with pytest.raises(ValueError, match=r"the files that policy\.path names have been replaced"):
            predict(ShardWriter(str(folder / "latents")), module, data)
    finally:
        weights.write_bytes(before)


def test_an_empty_caption_is_refused_by_name(folder: Path) -> None:
    batch = MemoryVideos(VIDEOS).batch(["a"])
    batch.rows = [replace(batch.rows[0], caption=" ")]
    with pytest.raises(ValueError, match=r"sample 'a': prompt 0 is empty"):
        VideoEncoder(WanPolicy(str(folder / "wan"))).predict_step(batch, 0)

"""Videos that an autoencoder cannot take are refused before any weights are loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule

from datamodules.dense.rows import VideoRow
from datamodules.dense.videos import Videos
from datamodules.schemas import write_shards
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from lightning_modules.policies.cogvideox import CogVideoXPolicy
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict.guided_sampler import GuidedSampler
from lightning_modules.predict.video_encoder import VideoEncoder
from lightning_modules.predict.video_sampler import VideoSampler
from tests.support.predict_fakes import trainer_with
from tests.support.tiny_flows import FAMILIES
from tests.support.tiny_wan import random_video, write_tiny_wan


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Videos of 9, 8 and 9 frames, the last 24 pixels high."""
    folder = tmp_path_factory.mktemp("videos")
    shapes = {"a": (9, 32, 32), "b": (8, 32, 32), "c": (9, 24, 32)}
    samples = []
    for key, (frames, height, width) in shapes.items():
        row = VideoRow(key, key, "a pattern", VideoFacts(frames, 8.0, width, height))
        mp4 = encode_mp4(random_video(frames, height, width), 8.0)
        samples.append((key, {"mp4": mp4, "json": json.dumps(row.to_json()).encode()}))
    write_shards(samples, folder / "videos", "vidpref/videos")
    return f"{folder}/videos.index.json"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> WanPolicy:
    return WanPolicy(str(write_tiny_wan(tmp_path_factory.mktemp("wan"))), prompt_length=32)


@pytest.mark.parametrize("kind", [GuidedSampler, VideoEncoder])
def test_all_that_do_not_fit_are_named_and_nothing_is_loaded(
    kind: type[LightningModule], videos: str, policy: Any
) -> None:
    with pytest.raises(ValueError, match=r"sample 'b': 8 frames.*4 k \+ 1.*nearest are 5 and 9") as error:
        trainer_with([]).predict(kind(policy), Videos(videos), return_predictions=False)
    assert "sample 'c': 32 x 24 pixels do not divide" in str(error.value)
    assert "sample 'a'" not in str(error.value)
    assert policy.model is policy._codec._vae is policy._codec._text is None


def test_what_is_not_asked_for_is_not_looked_at(videos: str, policy: Any) -> None:
    trainer_with([]).predict(VideoEncoder(policy), Videos(videos, limit=1), return_predictions=False)


def test_a_number_of_frames_names_the_nearest(tmp_path: Path, policy: WanPolicy) -> None:
    with pytest.raises(ValueError, match=r"num_frames.*6 frames are not.*nearest are 5 and 9"):
        VideoSampler(policy, 6, 32, 32)
    family = replace(FAMILIES["cogvideox"])
    cogvideox = CogVideoXPolicy(str(family.save(tmp_path)), **family.settings)
    with pytest.raises(ValueError, match=r"13 frames are not.*8 k \+ 1.*nearest are 9 and 17"):
        VideoSampler(cogvideox, 13, 32, 32)

"""Text encoders, autoencoder and image tower are released after use in every module of `predict` that has a policy."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import cv2
import pytest
from torch import Tensor

import lightning_modules.predict
from callbacks.writers.shards import ShardWriter
from callbacks.writers.video_folder import VideoFolderWriter
from datamodules.dense.prompts import Prompts
from datamodules.dense.video_pairs import VideoPairs
from datamodules.prepare.pairs import prepare_pairs
from datamodules.video.codec import encode_mp4
from lightning_modules.predict.guided_sampler import GuidedSampler
from lightning_modules.predict.pair_encoder import PairEncoder
from lightning_modules.predict.video_encoder import VideoEncoder
from lightning_modules.predict.video_sampler import VideoSampler
from tests.support.predict_fakes import MemoryVideos, predict
from tests.support.tiny_flows import FAMILIES, FPS

MODULES = (GuidedSampler, PairEncoder, VideoEncoder, VideoSampler)


def test_these_are_all_modules_with_a_flow_policy() -> None:
    owned = set()
    for file in pkgutil.iter_modules(lightning_modules.predict.__path__, "lightning_modules.predict."):
        module = importlib.import_module(file.name)
        own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == file.name]
        owned |= {kind for kind in own if "predict_step" in vars(kind) and "VideoFlow" in str(inspect.signature(kind))}
    assert owned == set(MODULES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODULES)
def test_nothing_is_held_beside_the_transformer_or_after_the_run(
    kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wan2.1 from an image, which has all three parts."""
    family = FAMILIES["wan21-image"]
    policy = family.policy(str(family.save(tmp_path / "wan")), **family.settings)
    codec, tower = policy._codec, policy._codec.tower
    encoding: list[bool] = []
    denoising: list[bool] = []
    encode, velocity = type(policy).encode_video, type(policy).predict

    def encoded(self: Any, frames: Any) -> Tensor:
        encoding.append(codec._text is None)
        return encode(self, frames)

    def predicted(self: Any, inputs: Any) -> Tensor:
        denoising.append(codec._text is None)
        return velocity(self, inputs)

    monkeypatch.setattr(type(policy), "encode_video", encoded)
    monkeypatch.setattr(type(policy), "predict", predicted)
    settings = {"num_steps": 2, "guidance_scale": 2.0}
    videos = MemoryVideos({key: family.video(seed) for seed, key in enumerate("ab")}, fps=FPS)
    if kind is GuidedSampler:
        predict(ShardWriter(str(tmp_path / "out")), kind(policy, **settings), videos)
    elif kind is VideoEncoder:
        predict(ShardWriter(str(tmp_path / "out")), kind(policy), videos)
    elif kind is PairEncoder:
        for name in "ab":
            (tmp_path / f"{name}.mp4").write_bytes(encode_mp4(family.video(), FPS, lossless=True))
        (tmp_path / "rows.json").write_text('[{"path_A": "a.mp4", "path_B": "b.mp4", "prompt": "x", "VQ": "A"}]')
        prepare_pairs(tmp_path / "rows.json", tmp_path / "given", lossless=True)
        predict(ShardWriter(str(tmp_path / "out")), kind(policy), VideoPairs(str(tmp_path / "given.index.json")))
    else:
        (tmp_path / "prompts.txt").write_text("a\nb\n")
        for name in "ab":
            picture = family.video()[0].permute(1, 2, 0).numpy()[..., ::-1]
            cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        sampler = kind(policy, *family.size, FPS, images=str(tmp_path), **settings)
        predict(VideoFolderWriter(str(tmp_path / "out")), sampler, Prompts(str(tmp_path / "prompts.txt")))
    assert set(encoding) == (set() if kind is VideoSampler else {True})
    assert set(denoising) == ({True} if kind in (GuidedSampler, VideoSampler) else set())
    assert codec._text is codec._vae is tower._model is None

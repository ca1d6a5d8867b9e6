"""A video of ten minutes and 128 of its frames train on one device: the tiny model, the real file, the real loader."""

from __future__ import annotations

import io
import json
import resource
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from callbacks.reference.model import ReferenceModel
from datamodules.schemas import write_shards
from datamodules.video.codec import probe
from datamodules.vista.batches import VistaBatch
from datamodules.vista.frame_samplers import EventFrames, FrameSampler, MotionFrames
from datamodules.vista.samples import Box, PreferenceRow
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.token_pooling import TokenPooling
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.preference_fakes import make_trainer
from tests.support.tiny_video_llava import save_tiny_video_llava

pytestmark = pytest.mark.slow

SECONDS, FPS, FRAMES = 600, 8, 128
EVENT = (300.0, 306.0)
#: Frames in which everything moves: those of the event.
MOVING = range(300 * FPS, 306 * FPS)


def ten_minutes() -> bytes:
    """4,800 frames of 32 x 48, a key frame every ten seconds, of which six seconds move."""
    buffer, random = io.BytesIO(), np.random.default_rng(0)
    with av.open(buffer, "w", format="mp4") as container:
        options = {"g": str(10 * FPS), "preset": "superfast", "crf": "17"}
        stream: Any = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.thread_count = 1
        for index in range(SECONDS * FPS):
            image = np.full((32, 48, 3), 40, np.uint8)
            if index in MOVING:
                image[:, 20:] = random.integers(0, 256, (32, 28, 3))
            image[8:16, 8:16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    video = ten_minutes()
    facts = probe(video)
    assert facts.duration == SECONDS
    samples = []
    for number in range(2):
        row = PreferenceRow(
            f"s{number}", f"v{number}", "what moves", "a square moves", "a disc moves", facts, "a cat", EVENT,
            (Box(8, 8, 8, 8, 303.0),),
        )  # fmt: skip
        samples.append((row.key, {"mp4": video, "json": json.dumps(row.to_json()).encode()}))
    output = tmp_path_factory.mktemp("long") / "train"
    write_shards(samples, output)
    return f"{output}.index.json"


@pytest.mark.parametrize("frames", [EventFrames(0.5), MotionFrames(0.5)], ids=lambda sampler: type(sampler).__name__)
def test_128_frames_of_ten_minutes_train_on_one_device(shards: str, tmp_path: Path, frames: FrameSampler) -> None:
    """Video-LLaVA's 512 positions hold them as two tokens a frame; the reference sees eight frames of the event."""
    checkpoint = str(save_tiny_video_llava(tmp_path))
    policy = VideoLlavaPolicy(
        checkpoint, lora=LoraSettings(r=2, alpha=8), num_frames=None, token_pooling=TokenPooling(video=2),
        activation_checkpointing=True,
    )  # fmt: skip
    weights = VistaWeights(video=0.0)
    module = VistaDPO(policy, partial(torch.optim.SGD, lr=0.05), weights=weights, schedule="constant", warmup=0.0)
    data = VistaPairs(
        train=shards, num_frames=FRAMES, num_clip_frames=8, num_object_frames=1, frames=frames, reference_frames=8
    )
    seen: list[VistaBatch] = []

    class Watch(ReferenceModel):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: VistaBatch, batch_idx: int) -> None:
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
            seen.append(batch)

    trainer = make_trainer([Watch()], steps=3, default_root_dir=tmp_path)
    trainer.fit(module, data)
    assert trainer.global_step == 3
    moved = [p.abs().max() for name, p in module.trainable().items() if "lora_B" in name]
    assert min(moved) > 0
    view = next(view for view in seen[0].views if view.name == "original")
    assert len(view.frames) == FRAMES
    assert view.times is not None
    times = view.times.tolist()
    assert times == sorted(set(times))
    within = sum(EVENT[0] - 1 <= time <= EVENT[1] + 1 for time in times)
    assert within >= FRAMES // 4, "a hundredth of the video; spread evenly it would have one frame or two"
    assert times[0] < 30 < 570 < times[-1]
    (reference, *_) = seen[0].reference_views
    assert len(reference.frames) == 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20, "KiB"

"""A run of VistaDPO on random weights and a video that is decoded: checkpoint, samples, module and data."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmarks.speed.models import save_video_llava, train_a_little, words
from benchmarks.speed.options import RunOptions
from benchmarks.speed.videos import FPS, write_samples
from benchmarks.speed.vista_case import question_length
from datamodules.video.facts import VideoFacts
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO


def write_run(options: RunOptions, folder: Path) -> Path:
    """Write the checkpoint into the folder, and shards of samples below it; the index's file."""
    save_video_llava(options, folder)
    facts = VideoFacts(options.video_frames, FPS, options.video_size, options.video_size)

    def texts(number: int) -> tuple[str, str, str, str]:
        generator = torch.Generator().manual_seed(options.seed + number)
        # The end of the sequence is a token of an answer, too.
        lengths = (question_length(options), *[options.answer - 1] * 3)
        question, chosen, rejected, irrelevant = (words(length, options, generator) for length in lengths)
        return question, chosen, rejected, irrelevant

    return write_samples(folder / "shards", options.samples, facts, options.seed, texts)


def method(options: RunOptions, folder: Path) -> VistaDPO:
    """The method on the checkpoint, its policy not loaded."""
    policy = VideoLlavaPolicy(str(folder), lora=LoraSettings(options.rank), num_frames=options.frames)
    return VistaDPO(policy, partial(torch.optim.AdamW, lr=1e-4, weight_decay=0.0), warmup=0.0)


def pairs(options: RunOptions, index_file: Path) -> VistaPairs:
    """The data, read by the process that trains, so that all time is its own."""
    return VistaPairs(train=str(index_file), num_frames=options.frames, seed=options.seed)


def loaded(options: RunOptions, folder: Path) -> VistaDPO:
    """The method with weights, and with adapters that are not 0."""
    module = method(options, folder)
    module.policy.load()
    train_a_little(module, options.seed)
    return module

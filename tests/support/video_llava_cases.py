"""Policies and views that the tests of Video-LLaVA share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from datamodules.vista.samples import View
from lightning_modules.policies.adapters import LANGUAGE_LINEARS, LoraSettings
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.tiny_video_llava import NUM_FRAMES

CHOSEN = "the red ball rolls to the left"
WITH_HEAD = rf"{LANGUAGE_LINEARS}|lm_head"

SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"lora": LoraSettings(r=4, alpha=8)},
    "lora on the head too": {"lora": LoraSettings(r=4, alpha=8, targets=WITH_HEAD)},
    "lora and projector": {"lora": LoraSettings(r=4, alpha=8), "train_projector": True},
    "lora and tower": {"lora": LoraSettings(r=4, alpha=8), "train_tower": True},
    "full": {},
    "full, tower and projector": {"train_tower": True, "train_projector": True},
    "recomputed activations": {"lora": LoraSettings(r=4, alpha=8), "activation_checkpointing": True},
    "recomputed activations, tower": {
        "lora": LoraSettings(r=4, alpha=8),
        "train_tower": True,
        "activation_checkpointing": True,
    },
}


def build_policy(path: Path, **settings: Any) -> VideoLlavaPolicy:
    """A loaded policy; a fresh adapter, which is zero, is given something to say, and the same each time."""
    policy = VideoLlavaPolicy(str(path), **{"num_frames": NUM_FRAMES} | settings)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        policy.load()
        for name, parameter in policy.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(std=0.3)
    return policy


def unequal_views() -> list[View]:
    """Unequal prompts, answers and frame sizes; a reversed video and a repeated frame."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 256, (NUM_FRAMES, 3, 20, 30), generator=generator, dtype=torch.uint8)
    second = torch.randint(0, 256, (NUM_FRAMES, 3, 18, 16), generator=generator, dtype=torch.uint8)
    return [
        View(0, "original", first, "what moves?", {"chosen": CHOSEN, "rejected": "a blue one", "irrelevant": "no"}),
        View(0, "video_negative", first.flip(0), "what moves?", {"chosen": CHOSEN}),
        View(1, "original", second, "where is it, and since when?", {"chosen": "left", "rejected": "right there"}),
        View(1, "object", second[2:3].expand(NUM_FRAMES, -1, -1, -1), "where is it?", {"chosen": "left"}),
    ]

"""A negative of frames in another order, of a video in which no frame differs from another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.vista.samples import View
from datamodules.vista.span_negatives import Reverse
from lightning_modules.policies.adapters import LoraSettings
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava
from tests.support.video_llava_cases import build_policy


def test_a_reordered_video_that_looks_alike_has_no_margin_and_no_gradient(tmp_path: Path) -> None:
    """What `Reverse` makes of a still video: it may count in the term's mean, and moves nothing."""
    policy = build_policy(save_tiny_video_llava(tmp_path / "tiny"), lora=LoraSettings(r=2, alpha=4))
    still = torch.full((NUM_FRAMES, 3, 20, 30), 90, dtype=torch.uint8)
    moving = torch.arange(0, 20 * NUM_FRAMES, 20, dtype=torch.uint8).view(-1, 1, 1, 1).expand_as(still).contiguous()
    moments = []
    for frames in (still, moving):
        policy.zero_grad()
        shown = {"original": frames, "video_negative": Reverse().make(frames, np.random.default_rng(0))}
        views = [View(0, name, frames, "what moves?", {"chosen": "it"}) for name, frames in shown.items()]  # type: ignore[arg-type]
        chosen, negative = policy(policy.encode(views)).log_probs
        (chosen - negative).backward()
        gradients = [parameter.grad.abs().max() for parameter in policy.parameters() if parameter.grad is not None]
        moments.append((abs((chosen - negative).item()), float(torch.stack(gradients).max())))
    assert moments[0] == pytest.approx((0, 0), abs=1e-5)
    assert min(moments[1]) > 1e-4, "a video that moves has both"

"""Frames resized in a loader's worker: the tower is shown the very same values."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.vista.shared_frames import share_frames
from lightning_modules.policies.frame_resizer import FrameResizer
from tests.support.family_cases import checkpoint, family_views, loaded, make_policy
from tests.support.slow_params import slow_but

#: Families whose frames are resized in workers, and how.
RESIZED: dict[str, dict[str, Any]] = {
    "video_llava": {},
    "video_llava squash": {"frame_fit": "squash"},
    "video_llava pad": {"frame_fit": "pad"},
    "pllava": {},
    "pllava pad": {"frame_fit": "pad"},
    "llava_next_video": {},
    "llava_onevision": {},
    "internvl": {},
}


def tensors(vision: Any) -> list[Tensor]:
    return [part for part in vision if isinstance(part, Tensor)]


@pytest.mark.parametrize("name", slow_but(("video_llava", "llava_onevision"), tuple(RESIZED)))
def test_scores_of_resized_frames_are_those_of_the_frames(name: str, tmp_path: Path) -> None:
    kind = name.split()[0]
    policy, views = loaded(checkpoint(kind, tmp_path), **RESIZED[name]), family_views(kind)
    resizer = policy.frame_resizer()
    small = share_frames(views, pickle.loads(pickle.dumps(resizer)))  # noqa: S301  # as to a worker
    shapes = {view.frames.shape[1:] for view in small}
    assert len(shapes) == 1
    assert {view.frames.dtype for view in small} == {torch.uint8}
    assert shapes != {view.frames.shape[1:] for view in views}
    encoded, before = policy.encode(small), policy.encode(views)
    assert len(tensors(encoded.vision)) == len(tensors(before.vision)) > 0
    for ours, theirs in zip(tensors(encoded.vision), tensors(before.vision), strict=True):
        assert torch.equal(ours, theirs)
    with torch.no_grad():
        assert torch.equal(policy.score(encoded).log_probs, policy.score(before).log_probs)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_5"])
def test_frames_whose_size_follows_from_their_number_travel_as_they_are(kind: str, tmp_path: Path) -> None:
    assert make_policy(checkpoint(kind, tmp_path)).frame_resizer() is None


def test_a_processor_that_would_resize_again_gets_no_resizer() -> None:
    """To 256, of which it leaves 224: of a square of 224 it would make another."""
    from transformers import VideoLlavaVideoProcessor

    assert FrameResizer.of(VideoLlavaVideoProcessor(size={"shortest_edge": 256})) is None
    assert FrameResizer.of(VideoLlavaVideoProcessor()) is not None

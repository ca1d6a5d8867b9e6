"""Frames resized in a loader's worker: the tower is shown the very same values."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.vista.samples import View
from datamodules.vista.shared_frames import share_frames
from lightning_modules.policies.frame_resizer import FrameResizer
from lightning_modules.policies.processor_resizer import processor_resizer
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


#: Families whose frames are resized by their processors, to a grid of patches as large as a budget of pixels allows or
#: to a square, and the budget: the least of Gemma 4.
BY_PROCESSOR = {
    "qwen2_vl": 28 * 28 * 12,
    "qwen2_5_vl": 28 * 28 * 12,
    "qwen3_vl": 28 * 28 * 12,
    "qwen3_5": 28 * 28 * 12,
    "glm46v": 28 * 28 * 12,
    "glm4v": 28 * 28 * 12,
    "video_llama_3": 28 * 28 * 12,
    "gemma4": 70 * 12 * 12,
    "smolvlm": 200 * 200,
}


def large_views(kind: str) -> list[View]:
    """Views of large frames, wide and tall, of which one shows fewer frames of the same video."""
    views = family_views(kind)
    generator = torch.Generator().manual_seed(1)
    wide, tall = (
        torch.randint(0, 256, (6, 3, *size), generator=generator, dtype=torch.uint8)
        for size in ((270, 480), (333, 190))
    )
    shown = [(views[0], wide), (views[1], wide.flip(0)), (views[0], wide[:3]), (views[2], tall)]
    return [replace(view, pool=frames, times=torch.arange(len(frames)) * 0.5) for view, frames in shown]


@pytest.mark.parametrize("kind", slow_but(("qwen2_5_vl", "gemma4", "smolvlm"), tuple(BY_PROCESSOR)))
def test_a_processor_makes_the_same_of_frames_that_it_has_resized(kind: str, folder: Path) -> None:
    policy, views = make_policy(checkpoint(kind, folder), max_pixels=BY_PROCESSOR[kind]), large_views(kind)
    resizer = pickle.loads(pickle.dumps(policy.frame_resizer()))  # noqa: S301  # as to a worker
    small = share_frames(views, resizer)
    assert all(view.frames.dtype == torch.uint8 and view.is_resized for view in small)
    assert sum(pool.numel() for pool in {id(view.pool): view.pool for view in small}.values()) < 0.2 * sum(
        view.frames.numel() for view in views
    )
    for ours, theirs in zip(small, views, strict=True):
        template, made = policy.chat.parts(ours, policy.processor_options(ours, "here"))
        expected_template, expected = policy.chat.parts(theirs, policy.processor_options(theirs, "here"))
        assert template == expected_template
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[name], expected[name]) for name in made)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "smolvlm"])
def test_frames_that_would_grow_travel_as_they_are(kind: str, folder: Path) -> None:
    policy, views = make_policy(checkpoint(kind, folder)), family_views(kind)
    small = views[0].with_frames(torch.zeros(2, 3, 8, 10, dtype=torch.uint8))
    (kept,) = share_frames([small], policy.frame_resizer())
    assert kept.frames.shape == small.frames.shape
    assert not kept.is_resized


def test_other_frames_of_a_view_are_resized_again(folder: Path) -> None:
    """As those of the reference's probe, which keeps every few pixels."""
    policy = make_policy(checkpoint("qwen2_5_vl", folder), max_pixels=28 * 28 * 12)
    (resized, *_) = share_frames(large_views("qwen2_5_vl"), policy.frame_resizer())
    assert policy.processor_options(resized, "here")["do_resize"] is False
    assert "do_resize" not in policy.processor_options(resized.with_frames(resized.frames[..., ::3, ::3]), "here")


def test_a_processor_that_would_resize_again_gets_no_resizer() -> None:
    """To 256, of which it leaves 224: of a square of 224 it would make another."""
    from transformers import VideoLlavaVideoProcessor

    assert FrameResizer.of(VideoLlavaVideoProcessor(size={"shortest_edge": 256})) is None
    assert FrameResizer.of(VideoLlavaVideoProcessor()) is not None


def test_a_processor_that_resizes_at_any_rate_gets_no_resizer() -> None:
    """And does not give back what it was shown."""
    from transformers import SmolVLMVideoProcessor

    class Stubborn(SmolVLMVideoProcessor):  # type: ignore[misc]
        def _preprocess(self, videos: list[Tensor], do_resize: bool, **options: Any) -> Any:
            return super()._preprocess(videos, True, **options)

    size = {"max_image_size": {"longest_edge": 16}}
    assert processor_resizer(Stubborn(**size), {}) is None
    assert processor_resizer(SmolVLMVideoProcessor(**size), {}) is not None

"""How frames meet the tower: what is left of them, and where it comes to lie, measured in pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from datamodules.vista.samples import Box, View
from datamodules.vista.shared_frames import distinct_units
from lightning_modules.policies.frames import FrameFit, frame_pixels, letterboxed, processor_region
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.tiny_video_llava import IMAGE_SIZE, NUM_FRAMES

SIZES = [(100, 250), (250, 100), (97, 201), (33, 34), (48, 48), (60, 250)]


def processor(**settings: Any) -> Any:
    from transformers import VideoLlavaVideoProcessor

    return VideoLlavaVideoProcessor(**settings)


def ramps(height: int, width: int) -> torch.Tensor:
    """A frame whose red is the column and whose green is the row."""
    frame = torch.zeros(3, height, width, dtype=torch.uint8)
    frame[0] = torch.arange(width)
    frame[1] = torch.arange(height)[:, None]
    return frame


def span_shown(reads: Any, frame: torch.Tensor, **fit: Any) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the source that the tower gets, in source pixels."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (reads.image_mean, reads.image_std))
    shown = (frame_pixels(reads, [frame], **fit)[0] * std + mean) * 255
    columns, rows = shown[0].median(dim=0).values, shown[1].median(dim=1).values

    def edges(values: torch.Tensor) -> tuple[float, float]:
        """Of the line through the values, which are those of pixel centres; without its ends, which bicubic bends."""
        inner = values[len(values) // 8 : -(len(values) // 8)]
        step, first = np.polyfit(np.arange(len(inner)) + len(values) // 8 + 0.5, inner.numpy() + 0.5, 1)
        return float(first), float(first + step * len(values))

    (left, right), (top, bottom) = edges(columns), edges(rows)
    return left, top, right, bottom


def close(box: Box, span: tuple[float, float, float, float]) -> bool:
    corners = (box.x, box.y, box.x + box.width, box.y + box.height)
    return all(abs(corner - other) < 0.8 for corner, other in zip(corners, span, strict=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("settings", [{}, {"size": {"shortest_edge": 256}}, {"do_resize": False}])
def test_the_region_of_a_processor_is_what_its_pixels_show(settings: dict[str, Any], size: tuple[int, int]) -> None:
    if settings == {"do_resize": False} and min(size) < 97:
        settings = {**settings, "crop_size": {"height": 16, "width": 16}}
    elif settings == {"do_resize": False}:
        settings = {**settings, "crop_size": {"height": 64, "width": 80}}
    reads = processor(**settings)
    assert close(processor_region(reads, *size), span_shown(reads, ramps(*size)))


def test_a_processor_that_squashes_or_does_not_crop_leaves_all() -> None:
    whole = Box(0, 0, 250, 100)
    squashing = processor(size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32})
    assert processor_region(squashing, 100, 250) == whole
    assert processor_region(processor(size={"height": 32, "width": 32}, do_center_crop=False), 100, 250) == whole


def test_an_unknown_way_to_resize_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="frame_fit to squash or pad"):
        processor_region(processor(size={"shortest_edge": 224, "longest_edge": 448}), 100, 250)


@pytest.mark.parametrize("size", SIZES)
def test_squash_shows_the_whole_frame(size: tuple[int, int]) -> None:
    span = span_shown(processor(), ramps(*size), fit="squash", side=24)
    assert close(Box(0, 0, size[1], size[0]), span)


def test_pad_shows_the_whole_frame_between_borders_of_the_mean() -> None:
    frame = ramps(100, 250)
    square = letterboxed(frame, (0.5, 0.25, 0.0))
    assert square.shape == (3, 250, 250)
    assert torch.equal(square[:, 75:175], frame)
    assert square[:, :75].flatten(1).unique(dim=1).flatten().tolist() == [128, 64, 0]
    assert square[:, 175:].flatten(1).unique(dim=1).flatten().tolist() == [128, 64, 0]
    pixels = frame_pixels(processor(), [frame, frame.transpose(1, 2)], fit="pad", side=50)
    assert pixels.shape == (2, 3, 50, 50)
    wide, tall = pixels
    assert float(wide[:, :12].abs().max()) < 0.01
    assert float(wide[:, 38:].abs().max()) < 0.01
    assert float(tall[:, :, :12].abs().max()) < 0.01
    reads = processor()
    red = (wide[0, 25] * reads.image_std[0] + reads.image_mean[0]) * 255
    assert red.tolist() == pytest.approx([5 * column + 2 for column in range(50)], abs=1.5)


@pytest.mark.parametrize("fit", ["processor", "squash", "pad"])
def test_a_policy_shows_the_tower_what_it_says(make: Callable[..., VideoLlavaPolicy], fit: FrameFit) -> None:
    policy = make(frame_fit=fit, train_tower=True)  # its encoding is the pixels
    frame = torch.zeros(3, 20, 40, dtype=torch.uint8)
    frame[:, :, :10] = 255  # the left quarter, which a crop of the centre leaves out
    view = View(0, "original", frame.expand(NUM_FRAMES, -1, -1, -1), "what?", {"chosen": "a"})
    pixels, _ = policy.encode([view]).vision
    assert pixels.shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)
    bright = (pixels[0, 0] > 1).float()
    region = policy.visible(20, 40)
    if fit == "processor":
        assert region == Box(10, 0, 20, 20)
        assert float(bright.mean()) < 0.02
    else:
        assert region == Box(0, 0, 40, 20)
        assert float(bright.mean()) == pytest.approx(0.25 if fit == "squash" else 0.125, abs=0.03)


def test_what_is_visible_is_known_before_weights_are_loaded(checkpoint: Any) -> None:
    policy = VideoLlavaPolicy(str(checkpoint))
    assert policy.visible(20, 40) == Box(10, 0, 20, 20)
    assert policy.model is None


# Distinct frames


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_units_that_differ_in_a_single_value_are_two(dtype: torch.dtype) -> None:
    """Wherever it is, also between the values that are sampled to find candidates."""
    frame = torch.arange(3 * 40 * 60).remainder(251).view(3, 40, 60).to(dtype)
    others = frame.repeat(8, 1, 1, 1)
    for place, other in enumerate(others):
        other.view(-1)[place * 907 + 1] = 255
    video = torch.cat([frame[None], others, frame[None]])
    units, places = distinct_units([video, video.flip(0)], ["a", "a"])
    assert len(units) == 9
    assert places == [[*range(9), 0], [0, *range(8, -1, -1)]]
    assert all(torch.equal(units[place], unit) for place, unit in zip(places[1], video.flip(0), strict=True))
    assert len(distinct_units([video, video], ["a", "b"])[0]) == 18


class Reading(TorchDispatchMode):
    """Counts the bytes that operators go through, without exact comparisons and without views."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func is not torch.ops.aten.equal.default:
            self.size += sum(value.nbytes for value in args if isinstance(value, torch.Tensor))
        return func(*args, **(kwargs or {}))


def test_candidates_are_found_in_a_hundredth_of_the_frames() -> None:
    """Sums over whole frames cost seconds a sample of 1080p."""
    random = torch.Generator().manual_seed(0)
    video = torch.randint(256, (8, 3, 216, 384), dtype=torch.uint8, generator=random)
    with Reading() as reading:
        units, _ = distinct_units([video, video.flip(0)])
    assert len(units) == 8
    # Besides the test's own reversal.
    assert reading.size - video.nbytes < 0.01 * 2 * video.nbytes

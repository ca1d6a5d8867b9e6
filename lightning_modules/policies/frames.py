"""Frames on their way to an image tower: fitted into the tower's square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.vista.samples import Box

#: How frames meet the tower: as the checkpoint's processor does, its crop included; squashed to a square; or made
#: square by borders. Only the first may hide a part of a frame.
FrameFit = Literal["processor", "squash", "pad"]


def frame_pixels(
    processor: Any, frames: Sequence[Tensor], fit: FrameFit = "processor", side: int = 0, normalise: bool = True
) -> Tensor:
    """Fit into the tower's square and normalise, on the frames' device, all frames of one size together.

    Args:
        processor: a transformers video processor.
        frames: U tensors (3, H, W) uint8; sizes may differ.
        fit: how a frame becomes a square.
        side: S; the checkpoint's processor knows it by itself.
        normalise: False = the square as uint8, of which another call makes the same values as of the frame.

    Returns:
        (U, 3, S, S) float32.
    """
    if fit == "pad":
        frames = [letterboxed(frame, processor.image_mean) for frame in frames]
    options: dict[str, Any] = {}
    if fit != "processor":
        options |= {"size": {"height": side, "width": side}, "do_center_crop": False}
    if not normalise:
        options |= {"do_rescale": False, "do_normalize": False}
    videos = [frame[None] for frame in frames]
    done = processor(
        videos=videos, input_data_format="channels_first", do_sample_frames=False, return_tensors="pt", **options
    )
    pixels: Tensor = done["pixel_values_videos"]
    return pixels[:, 0]


def letterboxed(frame: Tensor, colour: Sequence[float]) -> Tensor:
    """(3, H, W) uint8 -> (3, L, L) with L the longer side: the frame in the middle, borders of one colour.

    Args:
        frame: the frame.
        colour: of the borders, red, green and blue from 0 to 1; the processor's mean becomes 0 in the tower's input.
    """
    height, width = frame.shape[1:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    levels = torch.tensor([round(level * 255) for level in colour], dtype=frame.dtype, device=frame.device)
    square = levels[:, None, None].repeat(1, side, side)
    square[:, top : top + height, left : left + width] = frame
    return square


def processor_region(processor: Any, height: int, width: int) -> Box:
    """The part of a source frame that a transformers video processor leaves: it resizes, then crops the centre.

    Args:
        processor: a transformers video processor.
        height: of the source frame.
        width: of the source frame.

    Returns:
        In source pixels, with fractions.

    Raises:
        ValueError: the processor resizes in a way that is not known here.
    """
    if not getattr(processor, "do_center_crop", False):
        return Box(0.0, 0.0, float(width), float(height))
    rows, columns = _resized(dict(processor.size), height, width) if processor.do_resize else (height, width)
    top, bottom = _central(rows, processor.crop_size["height"])
    left, right = _central(columns, processor.crop_size["width"])
    across, down = width / columns, height / rows
    return Box(left * across, top * down, (right - left) * across, (bottom - top) * down)


def _resized(size: dict[str, int | None], height: int, width: int) -> tuple[int, int]:
    given = {name: value for name, value in size.items() if value is not None}
    if given.keys() == {"height", "width"}:
        return given["height"], given["width"]
    if given.keys() == {"shortest_edge"}:
        edge, short = given["shortest_edge"], min(height, width)
        # As transformers rounds: the longer side towards zero.
        return int(edge * height / short), int(edge * width / short)
    raise ValueError(
        f"the checkpoint's processor resizes frames to {given}: what its crop leaves of a frame is not known; set "
        "policy.frame_fit to squash or pad where the policy has it, or do_center_crop to false in the checkpoint's "
        "video_preprocessor_config.json"
    )


def _central(length: int, crop: int) -> tuple[int, int]:
    """First and last (exclusive) of the central `crop` pixels; all where there are fewer."""
    first = max(length - crop, 0) // 2
    return first, min(first + crop, length)

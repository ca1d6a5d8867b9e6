"""Frames on their way to an image tower: every distinct one once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def distinct_frames(videos: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The distinct frames of a batch's videos: a tower that sees frames one by one need see each only once.

    A reversed or shuffled video has the frames of its original, and an object view repeats a single frame, so that the
    six views of a sample hold about half as many distinct frames as frames.

    Args:
        videos: V tensors (T, 3, H, W) uint8, of one T; H and W may differ.

    Returns:
        U frames (3, H, W), and (V, T) int64 on the CPU: which of them stands where.
    """
    found: list[Tensor] = []
    known: dict[tuple[tuple[int, ...], bytes], list[int]] = {}
    places: list[list[int]] = []
    for video in videos:
        # Sums over rows and columns find the candidates; only an exact comparison makes two frames one.
        sums = torch.cat([video.sum(dim=(1, 2)), video.sum(dim=(1, 3))], dim=1).cpu().numpy()
        row: list[int] = []
        for frame, marginals in zip(video, sums, strict=True):
            candidates = known.setdefault((tuple(frame.shape), marginals.tobytes()), [])
            same = next((place for place in candidates if torch.equal(found[place], frame)), None)
            if same is None:
                same = len(found)
                candidates.append(same)
                found.append(frame)
            row.append(same)
        places.append(row)
    return found, torch.tensor(places, dtype=torch.int64)


def frame_pixels(processor: Any, frames: Sequence[Tensor]) -> Tensor:
    """Resize, crop and normalise as the checkpoint says, on the frames' device, all frames of one size together.

    Args:
        processor: a transformers video processor.
        frames: U tensors (3, H, W) uint8; sizes may differ.

    Returns:
        (U, 3, S, S) float32.
    """
    videos = [frame[None] for frame in frames]
    done = processor(videos=videos, input_data_format="channels_first", do_sample_frames=False, return_tensors="pt")
    pixels: Tensor = done["pixel_values_videos"]
    return pixels[:, 0]

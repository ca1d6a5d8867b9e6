"""Annotated videos whose every frame tells its number, for tests of views and batches."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import av
import torch
from torch import Tensor

from datamodules.video.codec import encode_mp4, probe
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box, PreferenceRow

OBJECT = Box(4, 4, 8, 8)
EVENT = (1.0, 2.0)  # frames 8 to 15 of 32
FPS = 8.0


def numbered_frames(first: int = 0, count: int = 32, size: tuple[int, int] = (32, 48)) -> Tensor:
    """(count, 3, H, W) uint8: frame i is a plain 4 (first + i) with a white square in `OBJECT`, top left."""
    height, width = size
    frames = (torch.arange(first, first + count) * 4).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, height, width)
    frames[:, :, 4:12, 4:12] = 255
    return frames


@cache
def numbered_video(first: int = 0, count: int = 32, size: tuple[int, int] = (32, 48)) -> bytes:
    return encode_mp4(numbered_frames(first, count, size), FPS, lossless=True)


def timed_video(shown: Sequence[int]) -> bytes:
    """An mp4 whose plain frames are shown at the given milliseconds."""
    buffer, tick = io.BytesIO(), Fraction(1, 1000)
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264")
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = tick
        for moment in shown:
            image: Any = av.VideoFrame(48, 32, "yuv420p")
            image.pts, image.time_base = moment, tick
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def numbers(frames: Tensor) -> list[int]:
    """Which frames of `numbered_frames` these are."""
    return [int(value) // 4 for value in frames[:, 0, -1, -1]]


def annotated(
    key: str, video_id: str | None = None, members: dict[str, bytes] | None = None, **fields: Any
) -> tuple[PreferenceRow, dict[str, bytes]]:
    """A row with event and box, and its bytes; `members` and fields replace or add."""
    content = {"mp4": numbered_video()} | (members or {})
    for name in ("clip", "clip_negative"):
        if f"{name}.mp4" in content:
            fields[name] = probe(content[f"{name}.mp4"])
    given: dict[str, Any] = {"irrelevant": "Rain.", "event": EVENT, "boxes": (OBJECT,)}
    video: VideoFacts = probe(content["mp4"])
    row = PreferenceRow(key, video_id or f"video-{key}", "What moves?", "A disc.", "A box.", video, **(given | fields))
    return row, content | {"json": json.dumps(row.to_json()).encode()}

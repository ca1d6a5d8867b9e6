"""Which frames of a video to decode: spread over it, within seconds of it, or at another rate."""

from __future__ import annotations

import math

import numpy as np

from datamodules.video.facts import VideoFacts


def uniform_indices(first: int, last: int, num: int) -> list[int]:
    """`num` frame numbers from `first` to `last`, both included, spread evenly and rounded down.

    This is the sampling of the released code (`np.linspace(..., dtype=int)`): a span shorter than `num` repeats frames.
    """
    return [int(index) for index in np.linspace(first, last, num, dtype=int)]


def span_frames(span: tuple[float, float], facts: VideoFacts) -> tuple[int, int]:
    """First and last frame whose showing begins inside [start, end) seconds; at least one frame of the video."""
    # The tolerance keeps a boundary that was written as a rounded decimal (3.3333) on the frame that it means.
    start, end = (math.ceil(seconds * facts.fps - 0.01) for seconds in span)
    first = min(max(start, 0), facts.frames - 1)
    return first, min(max(end - 1, first), facts.frames - 1)


def span_indices(span: tuple[float, float], facts: VideoFacts, num: int) -> list[int]:
    """`num` frame numbers spread evenly over a span of seconds."""
    return uniform_indices(*span_frames(span, facts), num)


def clip_indices(start: float, num: int, fps: float, facts: VideoFacts) -> list[int]:
    """The frames on screen at `start`, `start` + 1 / fps, ...: a clip of `num` frames at another rate.

    Frames are dropped or repeated, never blended. Where `fps` is the video's own, they are `num` consecutive ones.

    Args:
        start: the clip's first moment, in seconds.
        num: frames in the clip.
        fps: the clip's rate.
        facts: of the video; moments after its end show its last frame.
    """
    # The tolerance is for rates that were written as rounded decimals, as in `span_frames`.
    return [min(int((start + index / fps) * facts.fps + 0.01), facts.frames - 1) for index in range(num)]

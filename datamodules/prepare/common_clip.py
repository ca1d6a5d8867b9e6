"""Two videos of one prompt, cut to what both have: one rate, one length, one size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.prepare.clip_format import RATE_SLACK
from datamodules.prepare.imported_videos import ImportedVideo
from datamodules.video.codec import encode_mp4, stream_frames
from datamodules.video.containers import container_format
from datamodules.video.facts import VideoFacts
from datamodules.video.fit_frame import fit_frame
from datamodules.video.frame_indices import clip_indices


@dataclass(frozen=True, slots=True)
class CommonFormat:
    """What both videos of a pair are made to be; None = what both have.

    Attributes:
        height: pixels.
        width: pixels; a video is resized until it covers both, and its middle is cut out.
        frames: at most this many, a multiple of `temporal_ratio` plus 1.
        fps: frames a second.
        multiple: height and width are cut to multiples of it.
        temporal_ratio: of the autoencoder, frames per latent frame.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None
    fps: float | None = None
    multiple: int = 16
    temporal_ratio: int = 4

    def __post_init__(self) -> None:
        ratio = self.temporal_ratio
        if ratio < 1:
            raise ValueError(f"temporal_ratio is {ratio}; give the autoencoder's, 4 or 8")
        if self.frames is not None and (self.frames <= ratio or (self.frames - 1) % ratio):
            raise ValueError(f"num_frames is {self.frames}; give {ratio} k + 1, as {6 * ratio + 1} or {10 * ratio + 1}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps is {self.fps:g}; give a positive rate, or null for what both videos have")
        sizes = [size for size in (self.height, self.width) if size is not None]
        if self.multiple < 2 or self.multiple % 2 or any(size < 2 or size % self.multiple for size in sizes):
            raise ValueError(f"height and width are multiples of size_multiple, {self.multiple}, which is even")

    def of(self, first: VideoFacts, second: VideoFacts) -> VideoFacts:
        """Frames, rate and size of both clips.

        Raises:
            ValueError: a video is of a lower rate than asked for, or what both have is too short or too small.
        """
        slower = min(first.fps, second.fps)
        if self.fps is not None and slower * RATE_SLACK < self.fps:
            raise ValueError(f"has {slower:g} frames a second, {self.fps:g} are asked for; lower fps")
        fps = self.fps or slower
        # A frame counts when it begins before the end; the tolerance is for rates that were rounded.
        frames = math.ceil(min(first.duration, second.duration) * fps - 0.01)
        frames = (frames - 1) // self.temporal_ratio * self.temporal_ratio + 1
        if frames <= self.temporal_ratio:  # one latent frame is a picture
            raise ValueError(
                f"both videos have {min(first.duration, second.duration):.2f} s in common, fewer than "
                f"{self.temporal_ratio + 1} frames at {fps:g} a second"
            )
        height = self.height or min(first.height, second.height) // self.multiple * self.multiple
        width = self.width or min(first.width, second.width) // self.multiple * self.multiple
        if not height or not width:
            raise ValueError(f"a video is smaller than {self.multiple} x {self.multiple} pixels")
        return VideoFacts(min(frames, self.frames or frames), fps, width, height)


def clip_bytes(video: ImportedVideo, clip: VideoFacts, lossless: bool) -> bytes:
    """The mp4 of a video's beginning in another format; its own bytes where it has that format already."""
    content = video.content()
    # Unchanged where possible: to encode again costs quality. Shards hold mp4 alone.
    if video.facts == clip and container_format(content) == "mov":
        return content
    return encode_mp4(_clip_frames(content, video.facts, clip), clip.fps, lossless)


def _clip_frames(content: bytes, facts: VideoFacts, clip: VideoFacts) -> Tensor:
    """(T, 3, H, W) uint8, the first frame of both at the same moment."""
    indices = clip_indices(0.0, clip.frames, clip.fps, facts)
    frames = {index: fit_frame(frame, clip.height, clip.width) for index, frame in stream_frames(content, indices)}
    return torch.stack([frames[index] for index in indices])

"""Format of clips: size, length and rate, and what a crop to that size keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datamodules.video.facts import VideoFacts

#: Video autoencoders turn 4k + 1 frames into k + 1 latents, and drop what is over without a word.
TEMPORAL_RATIO = 4
#: How much slower than asked for a video may be: 23.976 frames a second count as 24.
RATE_SLACK = 1.01


@dataclass(frozen=True, slots=True)
class ClipFormat:
    """Format that every clip is brought to.

    Attributes:
        height: pixels.
        width: pixels; the video is resized until it covers both, and its middle is cut out.
        frames: number of frames, 4k + 1.
        fps: frames a second; None = each video's own.
        repeat: allow videos of a lower rate, whose frames are then shown several times.
    """

    height: int
    width: int
    frames: int
    fps: float | None
    repeat: bool

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.frames - 1) % TEMPORAL_RATIO:
            below = max(0, (self.frames - 1) // TEMPORAL_RATIO) * TEMPORAL_RATIO + 1
            near = f"{below} or {below + TEMPORAL_RATIO}"
            raise ValueError(f"num_frames is {self.frames}; autoencoders want 4k + 1, as {near}")
        if self.height < 2 or self.width < 2 or self.height % 2 or self.width % 2:
            raise ValueError(f"{self.height} x {self.width} is no size of a video; height and width are even numbers")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps is {self.fps:g}; give a positive rate, or null for each video's own")

    @property
    def size(self) -> str:
        """Height and width as the names of data sets have them."""
        return f"{self.height}x{self.width}"

    def rate(self, video: VideoFacts) -> float:
        """The clip's frames a second."""
        return self.fps or video.fps

    def starts(self, video: VideoFacts, most: int) -> list[float]:
        """When the clips of a video begin, in seconds: as many as fit, spread evenly; a single one is in the middle.

        Raises:
            ValueError: the video is too short for one, or of a lower rate.
        """
        rate = self.rate(video)
        if not self.repeat and video.fps * RATE_SLACK < rate:
            raise ValueError(
                f"has {video.fps:g} frames a second, {rate:g} are asked for; lower fps, or set repeat_frames"
            )
        length = self.frames / rate
        # Until when the first clip may begin: its last frame, not its end, must still be on screen.
        free = video.duration - (self.frames - 1) / rate - 0.02 / video.fps
        if free < 0:
            raise ValueError(
                f"is too short: {video.frames} frames at {video.fps:g} a second are {video.duration:.2f} s, "
                f"{self.frames} at {rate:g} need {length:.2f} s"
            )
        count = min(most, 1 + int(free / length))
        gap = (free - (count - 1) * length) / (count + 1)
        # At the beginning of a frame, far from where rounding could choose between two.
        return [int((gap + index * (length + gap)) * video.fps) / video.fps for index in range(count)]


def parse_sizes(sizes: str) -> list[tuple[int, int]]:
    """(height, width) of each size in a text like ``480x832,832x480``.

    Raises:
        ValueError: another form, or a size that comes twice.
    """
    shapes = []
    for size in sizes.split(","):
        height, cross, width = size.strip().partition("x")
        if not (cross and height.isdecimal() and width.isdecimal()):
            raise ValueError(f"sizes is {sizes!r}; give heights and widths as 480x832,832x480")
        shapes.append((int(height), int(width)))
    if len(set(shapes)) < len(shapes):
        raise ValueError(f"sizes is {sizes!r}; give each size once")
    return shapes


def kept_area(video: VideoFacts, height: int, width: int) -> float:
    """The share of a video's picture, 0 to 1, that is left when it is resized to cover a size and cropped to it."""
    ratio = (video.width * height) / (video.height * width)
    return min(ratio, 1 / ratio)

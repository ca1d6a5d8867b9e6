"""Measures of a toy video against its prompt: how far the shape moves, and how well it is drawn.

Pure functions of decoded frames and a `ShapeMotion`. *Speed* is net displacement within a second: a shape that jitters
in place has none, where a mean of absolute steps would count the jitter as motion and call every repair of it a loss of
motion. *Quality* is the distance of each frame from the nearest clean picture of the prompt's thing, whatever the other
frames show: it has no term of smoothness, which would punish real turns and so favour slow videos by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datamodules.toy_world.clean_pictures import nearest_clean
from datamodules.toy_world.motion_world import AXES, SECOND, SIZE, ShapeMotion, around


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of a video, or of a segment of one.

    Attributes:
        speed: mean over seconds of the net displacement along the prompt's axis, either way, pixels per frame.
        artifact: mean over frames of the squared distance from the nearest clean picture, as a share of what a frame
            without the thing is away: 0 = clean, 1 = nothing there.
    """

    speed: float
    artifact: float

    @property
    def quality(self) -> float:
        """1 minus the artifact; blind to motion."""
        return 1 - self.artifact


def measure(frames: Tensor, motion: ShapeMotion) -> Measures:
    """Measure a stretch of video.

    Args:
        frames: (T, 3, H, W) uint8, at least 3 frames of the toy world's size.
        motion: what the prompt says, see `parse_motion`.

    Raises:
        ValueError: frames of another size, or fewer than 3.
    """
    if frames.ndim != 4 or frames.shape[0] < 3 or tuple(frames.shape[1:]) != (3, SIZE, SIZE):
        raise ValueError(f"frames are {tuple(frames.shape)}; give at least 3 of (3, {SIZE}, {SIZE})")
    match = nearest_clean(frames, motion)
    steps = around(np.diff(match.centers, axis=0))[:, AXES[motion.axis]]
    # The median of signed steps is the second's velocity also where one frame's shape is torn in two.
    speeds = [abs(float(np.median(steps[start : start + SECOND]))) for start in range(0, len(steps), SECOND)]
    return Measures(sum(speeds) / len(speeds), float((match.distances**2).mean()))


def measure_segments(frames: Tensor, motion: ShapeMotion, frames_per_segment: int = SECOND) -> list[Measures]:
    """Measure each segment by itself, from its frames alone; an odd last frame belongs to the last segment.

    Args:
        frames: (T, 3, H, W) uint8.
        motion: what the prompt says.
        frames_per_segment: at least 3.
    """
    starts = range(0, max(1, len(frames) - 1), frames_per_segment)
    ends = [*starts[1:], len(frames)]
    return [measure(frames[start:end], motion) for start, end in zip(starts, ends, strict=True)]


def mean_measures(measures: Sequence[Measures]) -> Measures:
    """The mean of each measure over videos or segments."""
    count = len(measures)
    return Measures(sum(item.speed for item in measures) / count, sum(item.artifact for item in measures) / count)

"""Measures of a toy video against its prompt: how far the shape moves, and how good it looks.

Pure functions of decoded frames and a `ShapeMotion`. The shape is whatever differs from the background; where it is, is
its centre of mass on the torus. *Motion* says how far it moves along the prompt's axis. *Quality* is the mean of shape,
colour and smoothness, and says nothing of motion: like people who label videos for their artifacts, it has no objection
to a still shape.

Ground truth, also after mp4's lossy encoding, has a motion of 1 and a quality near 1 (see the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from datamodules.toy_world.motion_world import (
    AREA,
    AXES,
    BACKGROUND,
    PIXELS_PER_FRAME,
    SIZE,
    ShapeMotion,
    around,
    coverage,
)
from datamodules.toy_world.render import COLORS

Numbers = npt.NDArray[np.float64]

#: Opacity below this is what encoding leaves on a plain background.
HAZE = 0.15
#: A frame with less of a shape than this share of its area shows none.
GONE = 0.1
#: An angle between colours, seen from the background, at which a colour is no longer the right one. The closest two of
#: the toy world's colours, blue and purple, are 34 degrees apart.
WRONG_HUE = 30.0
#: A change of velocity from frame to frame, pixels, at which motion is no longer smooth at all.
JERK = 2.0
#: A change of area from frame to frame, as a share of the shape's, at which it is no longer constant at all.
FLICKER = 0.5


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of a video, or of a segment of one.

    Attributes:
        motion: mean displacement along the prompt's axis, either way, over what the prompt's speed asks for: 1 as
            asked, 0 still or to and fro; rarely above 2.
        direction: share of the mean displacement that is along the prompt's axis, 0..1; 0 where nothing moves.
        speed: length of the mean displacement, pixels per frame.
        shape: overlap with the prompt's shape at the place where it is, opacities' minimum over maximum, 0..1.
        color: share of what is seen that has the prompt's colour, 0..1.
        smoothness: half of it constancy of velocity, half constancy of area, 0..1.
    """

    motion: float
    direction: float
    speed: float
    shape: float
    color: float
    smoothness: float

    @property
    def quality(self) -> float:
        """Mean of shape, colour and smoothness, 0..1; blind to motion."""
        return (self.shape + self.color + self.smoothness) / 3


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
    offset = frames.permute(0, 2, 3, 1).double().numpy() - BACKGROUND
    # As vectors from the background's colour: their length is opacity, their direction is hue.
    color = np.array(COLORS[motion.thing.color], dtype=np.float64) - BACKGROUND
    opacity = (np.linalg.norm(offset, axis=-1) / np.linalg.norm(color)).clip(0, 1)
    opacity[opacity < HAZE] = 0.0
    area = opacity.sum(axis=(1, 2))
    seen = area > GONE * AREA
    centers = _centers(opacity, seen)
    steps = around(np.diff(centers, axis=0))
    mean_step = steps.mean(axis=0)
    progress, speed = abs(float(mean_step[AXES[motion.axis]])), float(np.linalg.norm(mean_step))
    return Measures(
        motion=progress / PIXELS_PER_FRAME[motion.speed],
        direction=progress / speed if speed > 1e-6 else 0.0,
        speed=speed,
        shape=_shape(opacity, centers, seen, motion.thing.shape),
        color=_color(offset, opacity, color, seen),
        smoothness=_smoothness(steps, area, seen),
    )


def measure_segments(frames: Tensor, motion: ShapeMotion, frames_per_segment: int) -> list[Measures]:
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
    means: list[float] = np.array([astuple(video) for video in measures]).mean(axis=0).tolist()
    return Measures(*means)


def _centers(opacity: Numbers, seen: npt.NDArray[np.bool_]) -> Numbers:
    """(T, 2) centres of mass (x, y) on the torus; where nothing is seen, that of the frame before."""
    pixels = np.arange(SIZE) + 0.5
    masses = np.stack([opacity.sum(axis=1), opacity.sum(axis=2)], axis=1)  # (T, 2, SIZE): along x, along y
    weights = masses / masses.sum(axis=2, keepdims=True).clip(min=1e-9)
    angles = 2 * np.pi * pixels / SIZE
    mean = np.arctan2(weights @ np.sin(angles), weights @ np.cos(angles)) * SIZE / (2 * np.pi)
    # The circular mean of a lopsided shape is a little off; the mean of offsets from it is exact.
    for _ in range(2):
        mean = mean + (weights * around(pixels - mean[..., None])).sum(axis=2)
    centers: Numbers = mean % SIZE
    # Ascending, so that a run of empty frames carries the last centre on.
    for frame in np.flatnonzero(~seen):
        centers[frame] = centers[frame - 1] if frame else SIZE / 2
    return centers


def _shape(opacity: Numbers, centers: Numbers, seen: npt.NDArray[np.bool_], shape: str) -> float:
    """Mean over frames of the overlap with the shape, drawn where the video has it; 0 where it has none."""
    expected = coverage(shape, centers)
    overlap = np.minimum(opacity, expected).sum(axis=(1, 2)) / np.maximum(opacity, expected).sum(axis=(1, 2))
    return float(np.where(seen, overlap, 0.0).mean())


def _color(offset: Numbers, opacity: Numbers, color: Numbers, seen: npt.NDArray[np.bool_]) -> float:
    """Mean over frames of the share of the right colour, each pixel by its opacity; 0 where nothing is seen."""
    length = np.linalg.norm(offset, axis=-1) * np.linalg.norm(color)
    angle = np.degrees(np.arccos((offset @ color / length.clip(min=1e-9)).clip(-1, 1)))
    rightness = (1 - angle / WRONG_HUE).clip(0, 1)
    share = (rightness * opacity).sum(axis=(1, 2)) / opacity.sum(axis=(1, 2)).clip(min=1e-9)
    return float(np.where(seen, share, 0.0).mean())


def _smoothness(steps: Numbers, area: Numbers, seen: npt.NDArray[np.bool_]) -> float:
    """Half constancy of velocity, half constancy of area, over the frames that show something."""
    jerks = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    changes = abs(np.diff(area)) / (FLICKER * AREA)
    steady = (1 - jerks / JERK).clip(0, 1).mean()
    constant = (1 - changes).clip(0, 1).mean()
    return float(seen.mean() * (steady + constant) / 2)

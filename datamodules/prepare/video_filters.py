"""Filters of videos to make pairs from: one small class a criterion, each with its reason for a rejection.

The paper (DenseDPO, appendix A.1) names resolution, duration, aesthetics, motion, and prompts that ask for challenging
dynamics; it gives no thresholds. All defaults here are ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.video.facts import VideoFacts
from datamodules.video.optical_flow import MEASURED_FPS, DisFlow, OpticalFlow, mean_motion

#: What a filter looks at, the cheapest first; one that rejects spares a video those that come later.
Looks = Literal["facts", "colours", "frames", "caption"]
#: Pixels on the shorter side that colours are counted from.
_SIDE = 96


@dataclass(frozen=True, slots=True)
class Candidate:
    """Clip that filters judge.

    Attributes:
        caption: what it shows.
        source: the whole video that it is cut from.
        frames: (T, 3, H, W) uint8, the clip as it would be stored; None until it is decoded ("facts" filters).
        fps: the clip's frames per second.
        kept_area: the share of the source's picture, 0 to 1, that the clip's crop keeps.
    """

    caption: str
    source: VideoFacts
    frames: Tensor | None
    fps: float
    kept_area: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Finding of a filter about a clip.

    Attributes:
        scores: what it measured, by name.
        why: the reason for a rejection; None = it may stay.
    """

    scores: dict[str, float] = field(default_factory=dict)
    why: str | None = None


class VideoFilter(ABC):
    """Base of the criteria."""

    looks_at: ClassVar[Looks] = "frames"

    @abstractmethod
    def judge(self, clip: Candidate) -> Finding:
        """Measure a clip, and say why it cannot stay if it cannot."""

    def prepare(self) -> None:  # noqa: B027 a hook, for those who can use it
        """Called once, before the first video: load what judging takes, so that a wrong setting is an error at once.

        Raises:
            ValueError: weights that are missing or are others.
        """

    def expect(self, captions: Sequence[str]) -> None:  # noqa: B027 a hook, for those who can use it
        """Called once, before the first clip, with all captions that may come."""


def bounded(name: str, value: float, least: float | None, most: float | None, unit: str = "") -> Finding:
    """A finding about a value that must be between two bounds, both allowed; None = no bound."""
    why = None
    if least is not None and value < least:
        why = f"{name} {value:.4g}{unit} is below {least:g}{unit}"
    elif most is not None and value > most:
        why = f"{name} {value:.4g}{unit} is above {most:g}{unit}"
    return Finding({name: value}, why)


class Duration(VideoFilter):
    """The length of the whole video.

    Args:
        least: seconds; None = no bound.
        most: seconds; None = no bound.
    """

    looks_at = "facts"

    def __init__(self, least: float | None = None, most: float | None = None) -> None:
        self.least, self.most = least, most

    def judge(self, clip: Candidate) -> Finding:
        """Seconds, as `duration`."""
        return bounded("duration", clip.source.duration, self.least, self.most, " s")


class Resolution(VideoFilter):
    """The shorter side of the source video, so that nothing small is enlarged.

    Args:
        least: pixels; None = no bound.
        most: pixels; None = no bound.
    """

    looks_at = "facts"

    def __init__(self, least: int | None = 480, most: int | None = None) -> None:
        self.least, self.most = least, most

    def judge(self, clip: Candidate) -> Finding:
        """Pixels, as `shorter_side`."""
        side = float(min(clip.source.width, clip.source.height))
        return bounded("shorter_side", side, self.least, self.most, " pixels")


class KeptArea(VideoFilter):
    """The share of the picture that is left when the video is cropped to the clips' shape.

    Args:
        least: 0 to 1; None = no bound. A 16:9 video in 9:16 clips keeps 0.32, a 4:3 video in 16:9 clips 0.75.
    """

    looks_at = "facts"

    def __init__(self, least: float | None = 0.5) -> None:
        if least is not None and not 0 <= least <= 1:
            raise ValueError(f"least is {least:g}; give a share of the picture, from 0 to 1")
        self.least = least

    def judge(self, clip: Candidate) -> Finding:
        """The share, as `kept_area`."""
        return bounded("kept_area", clip.kept_area, self.least, None)


class Motion(VideoFilter):
    """How much moves: see `optical_flow.mean_motion` for the unit, shorter sides of the frame per second.

    Args:
        least: below it hardly anything moves; None = no bound.
        most: above it the camera shakes or the picture flickers; None = no bound.
        flow: what measures it; None = OpenCV's DIS.
        fps: frames a second that are compared.
        shrink: the flow is measured on frames of a half (2) or a quarter (4) of each side, for about a quarter or a
            sixteenth of the time. Clips near `least` then read more: it is meant for whole frames, and is raised by
            `RAISED`; the report has the bound that was applied.
    """

    #: Of the windows of natural videos that we tried, those of 0.016 to 0.029 on whole frames read 1.06 to 1.12 times
    #: as much on halves and 1.16 to 1.26 times on quarters. Those far from the bound read otherwise: faster ones 0.97
    #: to 1.05 and 0.92 to 1.13 times, the slow one, of 0.0017, 0.85 and 0.68 times.
    RAISED: ClassVar[Mapping[int, float]] = {1: 1.0, 2: 1.1, 4: 1.2}

    def __init__(
        self,
        least: float | None = 0.02,
        most: float | None = 1.0,
        flow: OpticalFlow | None = None,
        fps: float = MEASURED_FPS,
        shrink: Literal[1, 2, 4] = 1,
    ) -> None:
        if not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps:g}; give the frames a second at which motion is measured")
        if shrink not in self.RAISED:
            raise ValueError(f"shrink is {shrink}; give {', '.join(map(str, self.RAISED))}")
        self.least, self.most, self.fps, self.shrink = least, most, fps, shrink
        self.flow = flow or DisFlow()

    def prepare(self) -> None:
        """Measure a blank clip, which loads the flow's weights where it has some."""
        # 128 pixels, the least that RAFT takes.
        self.flow.magnitudes(torch.zeros(2, 3, 128, 128, dtype=torch.uint8))

    def judge(self, clip: Candidate) -> Finding:
        """The clip's `motion`; on smaller frames also `motion_shrink` and `motion_least`, the bound."""
        assert clip.frames is not None, "asked after decoding"
        if self.shrink == 1:
            return bounded("motion", mean_motion(self.flow, clip.frames, clip.fps, self.fps), self.least, self.most)
        least = None if self.least is None else self.least * self.RAISED[self.shrink]
        motion = mean_motion(self.flow, clip.frames, clip.fps, self.fps, self.shrink)
        finding = bounded("motion", motion, least, self.most)
        bound = {} if least is None else {"motion_least": least}
        return Finding({**finding.scores, "motion_shrink": float(self.shrink), **bound}, finding.why)


class Cuts(VideoFilter):
    """Cuts within the clip: neighbouring frames whose colours differ, see `colour_distances`.

    Judged before the filters that look at whole frames, such as `Motion`, which cost more.

    Args:
        most: cuts that a clip may have.
        threshold: the distance, 0 to 1, from which on neighbours are said to be of two shots. On the natural and
            generated videos that we tried, neighbours within a shot were at most 0.2 apart, two videos at least 0.5.
    """

    looks_at = "colours"

    def __init__(self, most: int = 0, threshold: float = 0.4) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is {threshold:g}; colour distances lie between 0 and 1")
        self.most, self.threshold = most, threshold

    def judge(self, clip: Candidate) -> Finding:
        """The number of `cuts`, and `cut_distance`, the largest distance of neighbours."""
        assert clip.frames is not None, "asked after decoding"
        distances = colour_distances(clip.frames)
        # A cut is named by the first frame of the new shot.
        cuts = [index + 1 for index, distance in enumerate(distances) if distance >= self.threshold]
        finding = bounded("cuts", float(len(cuts)), None, self.most)
        scores = {**finding.scores, "cut_distance": max(distances, default=0.0)}
        where = ", ".join(f"{index / clip.fps:.2f}" for index in cuts[:5])
        return Finding(scores, finding.why and f"{finding.why} (at {where} s of the clip)")


def colour_distances(frames: Tensor, bins: int = 8) -> list[float]:
    """How much neighbouring frames differ in colour: half the L1 distance of their colour histograms, 0 to 1.

    Movement within a shot keeps its colours and so is small; 1 means that no colour is shared. Two shots of one palette
    look the same to it.

    Args:
        frames: (T, 3, H, W) uint8.
        bins: of each channel.
    """
    return [0.5 * float(np.abs(b - a).sum()) for a, b in pairwise(_histogram(frame, bins) for frame in frames)]


def _histogram(frame: Tensor, bins: int) -> NDArray[np.float64]:
    """(bins^3,) that sum to 1, of pixels in steps that leave about `_SIDE` on the shorter side.

    A pixel counts in the two bins nearest to it of each channel, the more the nearer: so a slight change of light moves
    little, wherever the borders of the bins are.
    """
    step = max(1, min(frame.shape[-2:]) // _SIDE)
    # In units of bins, from the middle of the first one.
    place = (frame[:, ::step, ::step].numpy().reshape(3, -1) + 0.5) * (bins / 256) - 0.5
    lower = np.floor(place)
    upper_share = place - lower
    histogram: NDArray[np.float64] = np.zeros(bins**3)
    # Trilinear: a pixel's weight is shared by the eight bins around it, lower or upper in each channel.
    for corner in product((0, 1), repeat=3):
        cell, share = np.zeros(place.shape[1], dtype=np.int64), np.full(place.shape[1], 1 / place.shape[1])
        for channel, up in enumerate(corner):
            cell = cell * bins + np.clip(lower[channel] + up, 0, bins - 1).astype(np.int64)
            share = share * (upper_share[channel] if up else 1 - upper_share[channel])
        histogram = histogram + np.bincount(cell, weights=share, minlength=bins**3)
    return histogram

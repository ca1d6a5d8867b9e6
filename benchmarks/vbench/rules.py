"""VBench (arXiv 2311.17982): the rules that turn frames, features and optical flow into scores, and scores into totals.

All are the published ones to the last digit; networks are in `networks`. A raw score is in [0, 1], one per dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from lightning_modules.losses.log_probs import at_least_float32


class Dimension(NamedTuple):
    """Weight and range of a dimension in the totals: (raw - low) / (high - low) * weight, which may leave [0, 1]."""

    group: Literal["quality", "semantic"]
    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0


#: The sixteen dimensions in the published order of their groups.
DIMENSIONS: Mapping[str, Dimension] = {
    "subject_consistency": Dimension("quality", 0.1462),
    "background_consistency": Dimension("quality", 0.2615),
    "temporal_flickering": Dimension("quality", 0.6293),
    "motion_smoothness": Dimension("quality", 0.706, 0.9975),
    "aesthetic_quality": Dimension("quality"),
    "imaging_quality": Dimension("quality"),
    "dynamic_degree": Dimension("quality", weight=0.5),
    "object_class": Dimension("semantic"),
    "multiple_objects": Dimension("semantic"),
    "human_action": Dimension("semantic"),
    "color": Dimension("semantic"),
    "spatial_relationship": Dimension("semantic"),
    "scene": Dimension("semantic", high=0.8222),
    "appearance_style": Dimension("semantic", 0.0009, 0.2855),
    "temporal_style": Dimension("semantic", high=0.364),
    "overall_consistency": Dimension("semantic", high=0.364),
}
#: The weight of quality in the total; that of semantic is 1.
QUALITY_WEIGHT = 4
#: The frames a second at which optical flow is measured, for dynamic degree.
FLOW_FPS = 8
#: The share of a frame's pixels, those that move most, that count for dynamic degree and for the static filter.
DYNAMIC_SHARE, STATIC_SHARE = 0.05, 0.02


def temporal_flickering(frames_THWC_uint8: Iterable[ArrayLike]) -> float:  # noqa: N803
    """How little neighbouring frames differ: 1 - mean absolute difference / 255; 1 for a still picture.

    The score of a folder is the mean over its videos.

    Args:
        frames_THWC_uint8: (T, H, W, C) at native resolution, channels in any order; or frames (H, W, C) one by one,
            of which two are held at a time.

    Raises:
        ValueError: fewer than two frames, or frames that are not uint8.
    """
    frames = (_float_frame(frame) for frame in frames_THWC_uint8)  # floats: the difference of two uint8 wraps
    return closeness([frame_difference(frame, following) for frame, following in pairwise(frames)])


def frame_difference(frame: np.ndarray, other: np.ndarray) -> Any:
    """The mean absolute difference of two frames, grey levels from 0 to 255: a number in the frames' precision.

    Args:
        frame: of any shape, not integers, which wrap.
        other: of the same shape.
    """
    return np.mean(np.abs(other - frame))


def closeness(differences: Sequence[float]) -> float:
    """1 - mean / 255 of differences of frames: how flickering and motion smoothness become scores.

    Raises:
        ValueError: no difference at all.
    """
    if not differences:
        raise ValueError("frames are compared with other frames: give at least two")
    return (255.0 - float(np.mean(differences))) / 255.0


def _float_frame(frame: ArrayLike) -> np.ndarray:
    array = np.asarray(frame)
    if array.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 from 0 to 255, not {array.dtype}: the published score is on that scale")
    return array.astype(np.float32)


def consistency(features_TD: ArrayLike | Tensor) -> float:  # noqa: N803
    """How alike a video's frames are: subject consistency on DINO features, background consistency on CLIP's.

    The mean over every frame after the first of 1/2 [max(0, cos(frame, frame before)) + max(0, cos(frame, first))].

    Args:
        features_TD: (T, D), one row a frame, of any length.

    Raises:
        ValueError: fewer than two frames.
    """
    features = F.normalize(at_least_float32(torch.as_tensor(features_TD)), dim=-1)
    if len(features) < 2:
        raise ValueError("consistency compares frames: give at least two")
    to_previous = F.cosine_similarity(features[1:], features[:-1], dim=-1).clamp(min=0)
    to_first = F.cosine_similarity(features[1:], features[:1], dim=-1).clamp(min=0)
    return ((to_previous.double() + to_first.double()) / 2).mean().item()


def flow_score(magnitude_HW: ArrayLike, share: float = DYNAMIC_SHARE) -> float:  # noqa: N803
    """How far a pair of frames moves: the mean of the 5% largest flow magnitudes, in pixels.

    Args:
        magnitude_HW: (H, W) length of the optical flow, at the size at which flow was measured.
        share: of the pixels that count; `STATIC_SHARE` for the static filter.

    Raises:
        ValueError: fewer pixels than the share is one of (20 for 5%).
    """
    magnitudes = np.sort(np.asarray(magnitude_HW), axis=None)[::-1]
    count = int(share * magnitudes.size)
    if count == 0:
        raise ValueError(
            f"{share:.0%} of {magnitudes.size} pixels are no pixel: flow needs at least {math.ceil(1 / share)}"
        )
    return float(np.mean(magnitudes[:count]))


def frame_interval(fps: float) -> int:
    """The step between the frames of which optical flow is computed, so that they are about 8 a second; at least 1.

    Halves round to the even number: 2 at 20 frames a second.
    """
    return max(1, round(fps / FLOW_FPS))


def is_dynamic(pair_scores: Sequence[float], height: int, width: int) -> bool:
    """Whether a video moves: about a quarter of its frames, or more, score above 6 pixels per 256 of the shorter side.

    Dynamic degree is the share of videos that do. The count is round(4 frames / 16), halves to the even number; two
    frames need none, and always move.

    Args:
        pair_scores: `flow_score` of neighbouring frames, `frame_interval` apart.
        height: of the video, in pixels.
        width: of the video, in pixels.
    """
    threshold = 6.0 * min(height, width) / 256
    needed = round(4 * (len(pair_scores) + 1) / 16)
    return len(pair_scores) > 0 and sum(score > threshold for score in pair_scores) >= needed


def is_static(pair_scores: Sequence[float], end_scores: Sequence[float], height: int, width: int) -> bool:
    """Whether a video is still, so that temporal flickering may be measured on it.

    No more than about an eighth of the pairs, round(2 frames / 16) with halves to the even number, score above 3 pixels
    per 256 of the shorter side; and first and last frame differ by no more than twice that count times that threshold.

    Args:
        pair_scores: `flow_score` with `STATIC_SHARE` of all neighbouring frames; none is left out.
        end_scores: the same from the first frame to the last, and from the last to the first.
        height: of the video, in pixels.
        width: of the video, in pixels.
    """
    threshold = 3.0 * min(height, width) / 256
    allowed = round(2 * (len(pair_scores) + 1) / 16)
    still = sum(score > threshold for score in pair_scores) <= allowed
    return still and all(score <= threshold * allowed * 2 for score in end_scores)


def aggregate(raw: Mapping[str, float]) -> dict[str, Any]:
    """Quality, semantic and total score from raw scores.

    Args:
        raw: dimension -> score in [0, 1], under VBench's names ("subject_consistency" or "subject consistency").

    Returns:
        "quality", "semantic" and "total" = (4 quality + semantic) / 5, each a weighted mean of normalised scores;
        "weighted", dimension -> its normalised score times its weight, with the given dimensions only; and "missing",
        the names of the others. The published script takes a raw 0 for those, and so do its three scores here: they
        belong in a table only when "missing" is empty, or when nothing is missing from that group.

    Raises:
        ValueError: a name that is none of the sixteen.
    """
    scores = {name.replace(" ", "_"): value for name, value in raw.items()}
    unknown = [name for name in scores if name not in DIMENSIONS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} are no dimensions of VBench, which has: {', '.join(DIMENSIONS)}")
    weighted = {
        name: (scores.get(name, 0.0) - dimension.low) / (dimension.high - dimension.low) * dimension.weight
        for name, dimension in DIMENSIONS.items()
    }
    quality, semantic = (_group_score(weighted, group) for group in ("quality", "semantic"))
    return {
        "quality": quality,
        "semantic": semantic,
        "total": (quality * QUALITY_WEIGHT + semantic) / (QUALITY_WEIGHT + 1),
        "weighted": {name: value for name, value in weighted.items() if name in scores},
        "missing": [name for name in DIMENSIONS if name not in scores],
    }


def _group_score(weighted: Mapping[str, float], group: str) -> float:
    members = [name for name, dimension in DIMENSIONS.items() if dimension.group == group]
    return sum(weighted[name] for name in members) / sum(DIMENSIONS[name].weight for name in members)

"""Seconds, frames and latents: which latent frame belongs to which labelled segment, and what labels add up to.

A causal video autoencoder turns r k + 1 frames into k + 1 latents (r = temporal ratio): latent 0 is frame 0, and latent
i is frames r (i - 1) + 1 to r i. Segments count frames from 0, s at a time. The paper leaves open how the two meet
(DenseDPO, arXiv 2506.03517); these rules are ours, and the judge, the data module and the loss share them:

- A latent that straddles two segments belongs to the one with more of its frames, on a draw to the earlier one.
- The odd last frame of r k + 1 joins the segment before it, so there are ceil((T - 1) / s) segments, not ceil(T / s).
- A last segment that holds the most frames of no latent would be a label without effect, and joins the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

#: A label for each segment, or one for the whole video.
Granularity = Literal["segments", "whole"]
#: What a judge says of two videos in the order in which they were shown.
Verdict = Literal["first", "second", "tie"]

_OTHER: dict[str, str] = {"first": "second", "second": "first", "tie": "tie"}
_LABELS: dict[str, int] = {"first": 1, "second": -1, "tie": 0}


def num_segments(num_frames: int, frames_per_segment: int, temporal_ratio: int) -> int:
    """How many segments a video has, each with at least one latent frame: its number of labels.

    Args:
        num_frames: T = r k + 1.
        frames_per_segment: s, at least r; the paper's second, in frames.
        temporal_ratio: r, frames per latent: 4 for Wan, 8 for LTX.

    Returns:
        ceil((T - 1) / s), or one less where the last segment would have no latent; 1 for a single frame.

    Raises:
        ValueError: T is not r k + 1 (the autoencoder would drop the last frames without a word), or s is below r.
    """
    return int(latent_segments(num_frames, frames_per_segment, temporal_ratio)[-1]) + 1


def latent_segments(num_frames: int, frames_per_segment: int, temporal_ratio: int) -> Tensor:
    """The segment of each latent frame.

    Args:
        num_frames: T = r k + 1.
        frames_per_segment: s, at least r.
        temporal_ratio: r.

    Returns:
        (k + 1,) int64 from 0 to `num_segments` - 1, rising without a gap.

    Raises:
        ValueError: as `num_segments`.
    """
    if temporal_ratio < 1 or num_frames < 1 or (num_frames - 1) % temporal_ratio:
        raise ValueError(
            f"{num_frames} frames are not a multiple of temporal ratio {temporal_ratio} plus 1; "
            "cut the video, or the autoencoder drops its last frames"
        )
    if frames_per_segment < temporal_ratio:
        raise ValueError(
            f"a segment of {frames_per_segment} frames is shorter than a latent of {temporal_ratio}; "
            "take longer segments, or two labels fall on one latent"
        )
    latents = torch.arange((num_frames - 1) // temporal_ratio + 1)
    # A latent meets two segments at most: the earlier has half of it or more exactly if it has the lower middle frame.
    middle_frames = (temporal_ratio * (latents - 1) + 1 + (temporal_ratio - 1) // 2).clamp(min=0)
    # Rounded up; the frame that is over joins the last segment, and a single frame has one.
    last = max(-(-(num_frames - 1) // frames_per_segment), 1) - 1
    return (middle_frames // frames_per_segment).clamp(max=last)


def segment_frames(num_frames: int, frames_per_segment: int, temporal_ratio: int) -> list[range]:
    """The frames of each segment, what a judge is shown: together all of them, the last range with what is left over.

    Raises:
        ValueError: as `num_segments`.
    """
    count = num_segments(num_frames, frames_per_segment, temporal_ratio)
    edges = [frames_per_segment * segment for segment in range(count)] + [num_frames]
    return [range(first, end) for first, end in pairwise(edges)]


def agreed_label(verdict: Verdict, verdict_swapped: Verdict) -> int:
    """The label of a pair that was judged twice, in both orders of showing.

    Args:
        verdict: with the pair's first video shown first.
        verdict_swapped: with its second video shown first; "first" then means the pair's second video.

    Returns:
        +1 or -1 where both verdicts name the pair's first or second video, otherwise 0.

    Raises:
        ValueError: a verdict is none of "first", "second" and "tie".
    """
    for given in (verdict, verdict_swapped):
        if given not in _LABELS:
            raise ValueError(f'verdict {given!r} is none of "first", "second" and "tie"; parse the reply first')
    return _LABELS[verdict] if _OTHER[verdict_swapped] == verdict else 0


def majority_label(labels: Sequence[int] | Tensor) -> int:
    """One label for a whole video: that of most segments that are no ties, and 0 when they balance (our choice).

    Raises:
        ValueError: a label is none of +1, 0 and -1.
    """
    total = sum(_checked(labels))
    return (total > 0) - (total < 0)


def decided_share(labels: Sequence[int] | Tensor) -> float:
    """The share of segments that are no ties; the paper trains on clips where it is above 0.2.

    Raises:
        ValueError: there are no labels, or one is none of +1, 0 and -1.
    """
    checked = _checked(labels)
    if not checked:
        raise ValueError("no labels: a clip has at least one segment")
    return sum(label != 0 for label in checked) / len(checked)


def _checked(labels: Sequence[int] | Tensor) -> list[int]:
    values = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    wrong = [label for label in values if label not in (-1, 0, 1)]
    if wrong:
        raise ValueError(f"labels {wrong} are none of +1 (the first video), -1 (the second) and 0 (a tie)")
    return [int(label) for label in values]

"""Negatives of the video and of the clip: what is shown in place of the whole video, or of the event.

A negative has three steps, each a pure function: whether a sample can have it (from the index), which frames it shows
(so that a video is decoded once for all of its views), and what it does to them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from datamodules.vista.facts import FrameMember, FrameSpan, SampleFacts


class SpanNegative:
    """Negative of a span of frames; this base shows the same frames, and a subclass changes which or how."""

    #: Whether `span` chooses its frames in another video, the partner.
    needs_partner: bool = False
    #: Frames that the positive must have and show; one frame alone cannot be put into another order.
    least_frames: int = 2

    def available(self, facts: SampleFacts, positive: FrameSpan) -> bool:
        """Whether a sample can have this negative: by its number of frames, whatever part of them a policy sees.

        The index does not say which frames look alike. Of a still video, or one that changes only in borders that the
        policy's processor crops, a reordered negative looks like its positive: the margin is 0 then, and the gradient
        too; the sample counts in the term's mean all the same, since the plan has counted it before it is decoded.
        """
        return len(positive) >= self.least_frames

    def members(self, facts: SampleFacts) -> tuple[FrameMember, ...]:
        """The members of the sample that `span` may choose, besides that of the positive."""
        return ()

    def span(self, facts: SampleFacts, positive: FrameSpan, random: np.random.Generator) -> FrameSpan:
        """The frames that the negative is made of.

        Args:
            facts: of the sample; of the partner, where `needs_partner`.
            positive: the span that the negative is compared with, always the sample's own.
            random: the draws of this sample for this purpose.
        """
        return positive

    def make(self, frames: Tensor, random: np.random.Generator) -> Tensor:
        """The negative of (T, 3, H, W) uint8 frames, in the same shape; the input is left as it is."""
        return frames


class VideoNegative(SpanNegative):
    """A negative of the whole video, v_l."""


class ClipNegative(SpanNegative):
    """A negative of the event clip, c_l."""


class Reverse(VideoNegative, ClipNegative):
    """The frames backwards: what happened first happens last. The paper's best for the whole video."""

    def make(self, frames: Tensor, random: np.random.Generator) -> Tensor:
        """The frames in reverse order; twice is the identity."""
        return frames.flip(0)


class Shuffle(VideoNegative, ClipNegative):
    """The frames in a random order that differs from the true one."""

    def make(self, frames: Tensor, random: np.random.Generator) -> Tensor:
        """The frames permuted so that some frame differs from before; frames that are all alike stay as they are."""
        if bool((frames == frames[:1]).all()):
            return frames.clone()
        while True:  # at least every other permutation moves one of two different frames
            shuffled = frames[torch.from_numpy(random.permutation(len(frames)))]
            if not torch.equal(shuffled, frames):
                return shuffled


class Noise(VideoNegative):
    """Uniform noise over the video.

    The released code shows pure noise, drawn after image normalisation; here it is drawn in pixels.

    Args:
        strength: share of noise in every pixel, above 0 and at most 1; the default shows nothing of the video.
    """

    least_frames = 1

    def __init__(self, strength: float = 1.0) -> None:
        if not 0.0 < strength <= 1.0:
            raise ValueError(f"Noise: strength is {strength}; give a share above 0 and at most 1")
        self.strength = strength

    def make(self, frames: Tensor, random: np.random.Generator) -> Tensor:
        """(1 - strength) frames + strength noise, rounded."""
        noise = torch.from_numpy(random.integers(0, 256, tuple(frames.shape), dtype=np.uint8))
        if self.strength == 1.0:
            return noise
        return torch.lerp(frames.float(), noise.float(), self.strength).round().to(torch.uint8)


class OtherVideo(VideoNegative):
    """The whole of another video of the same index; which one is drawn by (key, seed)."""

    needs_partner = True
    least_frames = 1

    def span(self, facts: SampleFacts, positive: FrameSpan, random: np.random.Generator) -> FrameSpan:
        """All of the partner."""
        return facts.whole()


class GivenVideo(VideoNegative):
    """The video that comes with the row, for which its chosen answer is wrong; rows without one have no video term.

    `prepare preferences` makes such rows of pairs that differ in their video.
    """

    least_frames = 1

    def available(self, facts: SampleFacts, positive: FrameSpan) -> bool:
        """Whether the sample has such a video."""
        return facts.rejected_video is not None

    def members(self, facts: SampleFacts) -> tuple[FrameMember, ...]:
        """That video."""
        return ("rejected.mp4",)

    def span(self, facts: SampleFacts, positive: FrameSpan, random: np.random.Generator) -> FrameSpan:
        """All of it."""
        assert facts.rejected_video is not None, "asked for only where it is available"
        return FrameSpan("rejected.mp4", 0, facts.rejected_video.frames - 1, facts.rejected_video.fps)


class OtherVideoSegment(ClipNegative):
    """A segment of another video, as long as the event (or all of a shorter video), at a random place."""

    needs_partner = True
    least_frames = 1

    def span(self, facts: SampleFacts, positive: FrameSpan, random: np.random.Generator) -> FrameSpan:
        """A segment of the partner with the event's length in seconds."""
        length = max(1, round(len(positive) / positive.fps * facts.video.fps))
        return _segment(facts.whole(), length, random)


class RelevantSegment(ClipNegative):
    """The same video where the event is not: the paper's best for the clip.

    The pre-cut `clip_negative.mp4` where the sample has one. Else a segment as long as the event, or the whole side
    where that is shorter, from before or after the event: the side is drawn with odds by its length, then the place.

    Args:
        min_share: a side counts when it has at least this share of the event's frames, and two frames (our choice).
            A sample whose event leaves no such side has no clip term.
    """

    least_frames = 1

    def __init__(self, min_share: float = 0.25) -> None:
        if not 0.0 <= min_share <= 1.0:
            raise ValueError(f"RelevantSegment: min_share is {min_share}; give a share of the event from 0 to 1")
        self.min_share = min_share

    def available(self, facts: SampleFacts, positive: FrameSpan) -> bool:
        """Whether there is a pre-cut negative, or room beside the event."""
        return facts.clip_negative is not None or bool(self._sides(facts))

    def members(self, facts: SampleFacts) -> tuple[FrameMember, ...]:
        """The pre-cut negative, or the video."""
        return ("mp4",) if facts.clip_negative is None else ("clip_negative.mp4",)

    def span(self, facts: SampleFacts, positive: FrameSpan, random: np.random.Generator) -> FrameSpan:
        """The pre-cut negative, or a segment beside the event."""
        if facts.clip_negative is not None:
            return FrameSpan("clip_negative.mp4", 0, facts.clip_negative.frames - 1, facts.clip_negative.fps)
        sides = self._sides(facts)
        # By length, so that every place of the video is about equally likely.
        lengths = np.array([len(side) for side in sides])
        side = sides[random.choice(len(sides), p=lengths / lengths.sum())]
        return _segment(side, round(len(positive) / positive.fps * side.fps), random)

    def _sides(self, facts: SampleFacts) -> list[FrameSpan]:
        """The parts of the video before and after the event that are long enough."""
        # A pre-cut clip may come without its place in the video.
        if facts.event is None:
            return []
        whole, event = facts.whole(), facts.span_of_event(facts.event)
        least = max(2, math.ceil(self.min_share * len(event)))
        before = FrameSpan("mp4", whole.first, event.first - 1, whole.fps)
        after = FrameSpan("mp4", event.last + 1, whole.last, whole.fps)
        return [side for side in (before, after) if len(side) >= least]


def _segment(span: FrameSpan, length: int, random: np.random.Generator) -> FrameSpan:
    """A segment of `length` frames at a random place of a span; all of a shorter span."""
    length = min(max(length, 1), len(span))
    first = span.first + int(random.integers(len(span) - length + 1))
    return FrameSpan(span.member, first, first + length - 1, span.fps)

"""Which frames of a video a view shows, given how many: evenly, more of the event, or more of where something moves.

A sampler is a pure function of the sample's annotation and bytes, so that views, and reference scores that are cached
by them, are the same in every epoch and on every rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.video.codec import read_packets
from datamodules.video.packets import motion_sizes
from datamodules.vista.facts import FrameSpan, SampleFacts
from datamodules.vista.samples import Needs, ViewName


@dataclass(frozen=True)
class SampledSpan:
    """A span of a video, to choose frames of.

    Attributes:
        span: the frames.
        event: the question's event where it is known in seconds, as a span of the sample's video.
        content: the video's bytes.
        name: of the member, for messages.
    """

    span: FrameSpan
    event: FrameSpan | None
    content: bytes
    name: str


class FrameSampler(ABC):
    """Sampler of a view's frames. Frames come in their order, each once where the span has as many."""

    #: Whether `indices` looks at the video's bytes.
    reads_content: bool = False
    #: Whether the frames of every view are evenly spaced in time.
    even: bool = False

    @abstractmethod
    def indices(self, sampled: SampledSpan, num: int) -> list[int]:
        """`num` frame numbers of a span, ascending."""

    def moved(self, indices: Sequence[int], span: FrameSpan, other: FrameSpan) -> list[int]:
        """The frames of another span at the same places: what a negative shows that is made of other frames.

        Its steps in time are those of its positive, which a policy that reads times could tell it from otherwise.

        Args:
            indices: of the positive.
            span: of the positive.
            other: of the negative.
        """
        return [other.first + (index - span.first) * (len(other) - 1) // max(len(span) - 1, 1) for index in indices]

    def remark(self, samples: Iterable[SampleFacts]) -> str | None:
        """One sentence about the samples in which it can do no more than sample evenly; None = there are none."""
        return None

    def describe(self) -> dict[str, str]:
        """Class and arguments in plain types: two that agree here choose the same frames."""
        return {"class": type(self).__qualname__, "args": repr(sorted(vars(self).items()))}


class UniformFrames(FrameSampler):
    """Frames spread evenly from the first to the last, rounded down, as the released code has them."""

    even = True

    def indices(self, sampled: SampledSpan, num: int) -> list[int]:
        """See `FrameSpan.indices`."""
        return sampled.span.indices(num)

    def moved(self, indices: Sequence[int], span: FrameSpan, other: FrameSpan) -> list[int]:
        """Spread evenly over the other span."""
        return other.indices(len(indices))


class EventFrames(FrameSampler):
    """A share of the frames within the question's event, the others evenly over what is before and after it.

    A sample whose event is not known in seconds, which includes a pre-cut clip without its place in the video, is
    sampled evenly, and so is a span that is not of the sample's video.

    Args:
        share: of the frames that show the event (our choice), above 0 and at most 1. An event or a rest that has too
            few frames leaves its own to the other.
    """

    def __init__(self, share: float = 0.5) -> None:
        if not 0.0 < share <= 1.0:
            raise ValueError(f"EventFrames: share is {share}; give a share above 0 and at most 1")
        self.share = share

    def indices(self, sampled: SampledSpan, num: int) -> list[int]:
        """Those of the event and those around it, in their order."""
        span, event = sampled.span, sampled.event
        if event is None or event.member != span.member or num >= len(span):
            return span.indices(num)
        first, last = max(event.first, span.first), min(event.last, span.last)
        if first > last:
            return span.indices(num)
        inside = last - first + 1
        # At least one, whatever the share; and no more outside than there are.
        count = max(1, round(self.share * num), num - (len(span) - inside))
        count = min(count, inside, num)
        chosen = FrameSpan(span.member, first, last, span.fps).indices(count)
        # Numbered without the event, so that the frames outside are spread as if it were not there.
        outside = FrameSpan(span.member, span.first, span.last - inside, span.fps)
        rest = outside.indices(num - count) if num > count else []
        return sorted([*chosen, *(index if index < first else index + inside for index in rest)])

    def remark(self, samples: Iterable[SampleFacts]) -> str | None:
        """How many samples have no event in seconds."""
        keys = [(facts.key, facts.event is None) for facts in samples]
        without = [key for key, lacks in keys if lacks]
        if not without:
            return None
        return (
            f"{len(without)} of {len(keys)} samples have no event in seconds, and EventFrames samples them evenly (the "
            f"first is {without[0]!r})"
        )


class MotionFrames(FrameSampler):
    """More frames where more moves, by the sizes of the packets between key frames, without decoding any.

    Sizes are read from the container: a tenth of a second of one core for ten minutes of video, against minutes for
    differences of decoded frames. See `motion_sizes` for what they follow.

    Args:
        share: of the frames that follow motion, above 0 and at most 1; the others are spread evenly (our choice).
        window: seconds over which sizes are averaged, so that a frame that is stored cheaply beside others, or a cut,
            does not count for itself (our choice).
    """

    reads_content = True

    def __init__(self, share: float = 0.5, window: float = 1.0) -> None:
        if not 0.0 < share <= 1.0:
            raise ValueError(f"MotionFrames: share is {share}; give a share above 0 and at most 1")
        if window < 0.0:
            raise ValueError(f"MotionFrames: window is {window}; give seconds from 0 on")
        self.share = share
        self.window = window

    def indices(self, sampled: SampledSpan, num: int) -> list[int]:
        """The frames at equal steps of motion and time together."""
        span = sampled.span
        if num >= len(span):
            return span.indices(num)
        sizes = motion_sizes(read_packets(sampled.content)[0])
        if sizes is None or len(sizes) <= span.last:
            # Said by the worker that reads it: no index knows how a video is stored.
            rank_zero_warn(f"{sampled.name}: MotionFrames samples it evenly, the sizes of its packets tell no motion")
            return span.indices(num)
        width = max(1, round(self.window * span.fps)) | 1
        padded = np.pad(sizes, width // 2, mode="edge")
        sums = np.concatenate([[0], np.cumsum(padded)])
        # Whole numbers up to here: nothing depends on the order in which a processor adds.
        motion = np.cumsum((sums[width:] - sums[:-width])[span.first : span.last + 1])
        if not motion[-1]:
            return span.indices(num)
        passed = (1.0 - self.share) * np.arange(1, len(span) + 1) / len(span) + self.share * motion / motion[-1]
        places = np.searchsorted(passed, (np.arange(num) + 0.5) / num)
        # Where much moves, several steps may fall on one frame: each takes the next, then the last ones move back.
        steps = np.arange(num)
        places = np.maximum.accumulate(places - steps) + steps
        places = np.minimum(places, len(span) - num + steps)
        return [span.first + int(place) for place in places]


#: What `ViewFrames.describe` names where it is not the default.
VIEW_FRAME_SETTINGS = ("num_clip_frames", "num_object_frames", "reference_frames", "frames", "clip_frames")


@dataclass(frozen=True)
class ViewFrames:
    """How many frames each view shows, and which.

    Attributes:
        num_frames: of the whole video; of every view that has no number of its own.
        num_clip_frames: of the two views of the clip; None = as the whole video.
        num_object_frames: how often the boxed frame is repeated, in its two views; None = as the whole video.
        sampler: of the whole video.
        clip_sampler: of the clip.
        reference_frames: frames of the event's clip that the reference is shown in the place of the whole video; None =
            it sees what the policy sees.
    """

    num_frames: int
    num_clip_frames: int | None = None
    num_object_frames: int | None = None
    sampler: FrameSampler = field(default_factory=UniformFrames)
    clip_sampler: FrameSampler = field(default_factory=UniformFrames)
    reference_frames: int | None = None

    def count(self, name: ViewName) -> int:
        """Frames of a view."""
        own = {"clip": self.num_clip_frames, "object": self.num_object_frames}.get(name.removesuffix("_negative"))
        return self.num_frames if own is None else own

    def most(self, needs: Needs) -> int:
        """Frames of the view that has most, among those that are made."""
        return max([*map(self.count, needs), self.reference_frames or 1])

    def sampler_of(self, name: ViewName) -> FrameSampler:
        """What chooses a view's frames."""
        return self.clip_sampler if name.startswith("clip") else self.sampler

    def describe(self) -> dict[str, Any]:
        """What is not as in version 0.1.0, in plain types; that version knew the number of frames alone."""
        counts = VIEW_FRAME_SETTINGS[:3]
        settings: dict[str, Any] = {name: value for name in counts if (value := getattr(self, name)) is not None}
        chosen = {"frames": self.sampler, "clip_frames": self.clip_sampler}
        return settings | {
            name: sampler.describe() for name, sampler in chosen.items() if type(sampler) is not UniformFrames
        }

"""Facts of a sample in the index: enough to know which frames every view needs before a byte is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datamodules.video.facts import Fault, VideoFacts
from datamodules.video.frame_indices import span_frames, uniform_indices
from datamodules.vista.samples import Box, place_faults

#: The members of a sample that hold frames.
FrameMember = Literal["mp4", "clip.mp4", "clip_negative.mp4", "rejected.mp4", "frame.jpg"]


@dataclass(frozen=True, slots=True)
class FrameSpan:
    """Span of frames, `first` to `last`, both included, of one of a sample's members at `fps` frames per second."""

    member: FrameMember
    first: int
    last: int
    fps: float

    def __len__(self) -> int:
        return self.last - self.first + 1

    def indices(self, num: int) -> list[int]:
        """`num` frame numbers spread evenly over the span."""
        return uniform_indices(self.first, self.last, num)

    def times(self, indices: Sequence[int], whole: FrameSpan) -> list[float]:
        """When each of some frames is shown, in seconds from the span's first frame.

        Args:
            indices: the frames of the view.
            whole: the sample's whole video; a single frame that is repeated is shown with its step.
        """
        if len(self) > 1:
            return [(index - self.first) / self.fps for index in indices]
        # All at one moment would be no video to a policy that reads times.
        num = len(indices)
        step = max(len(whole) - 1, 1) / whole.fps / max(num - 1, 1)
        return [place * step for place in range(num)]


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """Sample without its texts and pixels; the fields are those of `PreferenceRow`.

    Attributes:
        irrelevant: whether the sample has an irrelevant answer.
        rejected: whether it has a rejected answer; only one with a `rejected_video` may have none.
    """

    key: str
    video_id: str
    video: VideoFacts
    event: tuple[float, float] | None = None
    boxes: tuple[Box, ...] = ()
    clip: VideoFacts | None = None
    clip_negative: VideoFacts | None = None
    key_frame: bool = False
    irrelevant: bool = False
    rejected: bool = True
    rejected_video: VideoFacts | None = None

    @classmethod
    def from_index(cls, key: str, facts: Mapping[str, Any]) -> SampleFacts:
        """The facts that an index holds for one sample of the VistaDPO schema."""
        video = VideoFacts(*(facts[name] for name in ("frames", "fps", "width", "height")))
        clip, clip_negative, negative = (
            VideoFacts(**facts[name]) if facts.get(name) else None for name in ("clip", "clip_negative", "negative")
        )
        event = facts.get("event")
        return cls(
            key=key,
            video_id=facts["video_id"],
            video=video,
            event=None if event is None else (float(event[0]), float(event[1])),
            boxes=tuple(Box(*box) for box in facts.get("boxes", ())),
            clip=clip,
            clip_negative=clip_negative,
            key_frame=bool(facts.get("key_frame", False)),
            irrelevant=bool(facts.get("irrelevant", False)),
            rejected=bool(facts.get("rejected", True)),
            rejected_video=negative,
        )

    def faults(self) -> list[Fault]:
        """What is wrong with event and boxes; the texts were checked where the row entered."""
        return place_faults(self.video, self.event, self.boxes)

    def whole(self) -> FrameSpan:
        """The whole video."""
        return FrameSpan("mp4", 0, self.video.frames - 1, self.video.fps)

    def event_span(self) -> FrameSpan | None:
        """The event: the pre-cut clip where there is one, else the event's span of the video; None = unknown."""
        if self.clip is not None:
            return FrameSpan("clip.mp4", 0, self.clip.frames - 1, self.clip.fps)
        return None if self.event is None else self.span_of_event(self.event)

    def span_of_event(self, event: tuple[float, float]) -> FrameSpan:
        """The frames of the video that an event in seconds takes."""
        return FrameSpan("mp4", *span_frames(event, self.video), self.video.fps)

    def moment(self) -> float:
        """The moment, in seconds, of the boxed frame nearest the middle of the event.

        Where no event is known, of the video. A box without a time holds for the whole event and so for its middle.
        """
        start, end = self.event or (0.0, self.video.duration)
        middle = (start + end) / 2
        return min(
            (middle if box.time is None else box.time for box in self.boxes), key=lambda time: abs(time - middle)
        )

    def moment_boxes(self) -> tuple[Box, ...]:
        """The boxes of that frame: those with its time, and those without a time, which hold always."""
        moment = self.moment()
        return tuple(box for box in self.boxes if box.time in (None, moment))

    def moment_span(self) -> FrameSpan | None:
        """The frame on screen at that moment, or the picture that the boxes were drawn on; None = no box."""
        if not self.boxes:
            return None
        # The picture is a moment by itself, wherever in the video it was taken.
        if self.key_frame:
            return FrameSpan("frame.jpg", 0, 0, self.video.fps)
        # The tolerance is for times that were written as rounded decimals.
        frame = min(int(self.moment() * self.video.fps + 0.01), self.video.frames - 1)
        return FrameSpan("mp4", frame, frame, self.video.fps)

"""A sample's row and bytes become its views: a pure function of sample, seed and, if asked for, epoch.

Each video is decoded once: the frames that the views of a sample show of it are read in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.stream.draws import generator
from datamodules.vista.facts import FrameSpan, SampleFacts
from datamodules.vista.frame_choices import FrameChoice, content_of, decoded
from datamodules.vista.frame_samplers import SampledSpan, ViewFrames
from datamodules.vista.object_negatives import ObjectNegative, RoiMove
from datamodules.vista.samples import VIEW_NAMES, AnswerName, Needs, PreferenceRow, View, ViewName
from datamodules.vista.span_negatives import ClipNegative, RelevantSegment, Reverse, SpanNegative, VideoNegative
from datamodules.vista.visible import WHOLE_FRAMES, VisibleRegions

Level = Literal["video", "clip", "object"]
#: A level's view and its negative.
LEVEL_VIEWS: dict[Level, tuple[ViewName, ViewName]] = {
    "video": ("original", "video_negative"),
    "clip": ("clip", "clip_negative"),
    "object": ("object", "object_negative"),
}
#: The loss terms that only some samples take part in, with the level that decides it.
TERM_LEVELS: dict[str, Level] = {"video": "video", "clip": "clip", "object": "object"}
#: The loss terms of every sample with two answers, and of every sample.
ANSWER_TERMS, COMMON_TERMS = ("response", "token"), ("supervised",)


class Partner(NamedTuple):
    """Another sample, of another video: its facts, and a function that reads a member."""

    facts: SampleFacts
    read: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Negatives:
    """The negative of each level; the defaults are the paper's best.

    What it is asked about samples it answers for facts as the policy sees them, see `VisibleRegions.seen`.
    """

    video: VideoNegative = field(default_factory=Reverse)
    clip: ClipNegative = field(default_factory=RelevantSegment)
    object: ObjectNegative = field(default_factory=RoiMove)

    def levels(self, facts: SampleFacts) -> frozenset[Level]:
        """The levels at which a sample has a view and its negative."""
        event = facts.event_span()
        has: dict[Level, bool] = {
            "video": self.video.available(facts, facts.whole()),
            "clip": event is not None and self.clip.available(facts, event),
            "object": bool(facts.boxes) and self.object.available(facts),
        }
        return frozenset(level for level, there in has.items() if there)

    def describe(self, visible: VisibleRegions = WHOLE_FRAMES) -> dict[str, Any]:
        """Class and arguments of each, in plain types: two that agree here give equal views.

        How frames meet the tower is said only where it is not as in version 0.1.0, whose cached scores stay valid then.

        Args:
            visible: what the policy sees of the frames.
        """
        fit = {} if visible.frame_fit == "processor" else {"frame_fit": visible.frame_fit}
        chosen = {"video": self.video, "clip": self.clip, "object": self.object}
        return {
            level: {
                "class": type(negative).__qualname__,
                "args": repr(sorted(vars(negative).items())),
                **fit,
                **(visible.describe() if level == "object" else {}),
            }
            for level, negative in chosen.items()
        }


def membership(
    levels: Sequence[Collection[Level]], facts: Sequence[SampleFacts] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Term -> (N,) bool: which samples take part in it; what the plan counts for the global denominators.

    Args:
        levels: of each of the N samples, see `Negatives.levels`.
        facts: of the same samples; None = all have a rejected answer.
    """
    rejected = np.ones(len(levels), bool) if facts is None else np.array([sample.rejected for sample in facts], bool)
    terms = {term: rejected.copy() for term in ANSWER_TERMS}
    terms |= {term: np.ones(len(levels), bool) for term in COMMON_TERMS}
    return terms | {term: np.array([level in has for has in levels], bool) for term, level in TERM_LEVELS.items()}


@dataclass(frozen=True, slots=True)
class ViewMaker:
    """Makes the views of a sample.

    Attributes:
        needs: the views to make and the answers to score under each; no other view is decoded.
        negatives: the negative of each level.
        frames: how many frames each view shows, and which.
        seed: the run's seed.
        resample_each_epoch: draw again in every epoch; otherwise a sample's views are always the same.
        visible: what the policy sees of the frames; object negatives change only that.
    """

    needs: Needs
    negatives: Negatives
    frames: ViewFrames
    seed: int
    resample_each_epoch: bool = False
    visible: VisibleRegions = WHOLE_FRAMES

    def __post_init__(self) -> None:
        for name in self.needs:
            negative, count = self._span_negative(name), self.frames.count(name)
            # One frame backwards is the frame itself: margin and gradient would be 0 in every step.
            if negative is not None and count < negative.least_frames:
                setting = "num_frames" if count == self.frames.num_frames else "num_clip_frames"
                raise ValueError(
                    f"data.{setting} is {count}: {type(negative).__name__}, the {name.replace('_', ' ')}, "
                    f"would show the same as its positive; give at least {negative.least_frames}, another negative, or "
                    "its term the weight 0"
                )
        if self.frames.reference_frames is not None and "video_negative" in self.needs:
            # What the reference says of the clip and of the negative's whole video differs by their lengths alone.
            raise ValueError(
                "data.reference_frames shows the reference the event's clip, and the video term would compare its "
                "score of the clip with that of another whole video; give weights.video 0, or leave reference_frames "
                "out"
            )

    def __call__(
        self,
        row: PreferenceRow,
        facts: SampleFacts,
        levels: Collection[Level],
        members: Mapping[str, bytes],
        epoch: int,
        find_partner: Callable[[np.random.Generator], Partner],
    ) -> list[View]:
        """The sample's views, as sample 0 of a batch, in the order of `VIEW_NAMES`; maybe none of those needed.

        A view of the reference's own is behind them.

        Args:
            row: the annotation.
            facts: the same sample as the index describes it.
            levels: see `Negatives.levels`; they decide which views there are.
            members: the sample's bytes by suffix.
            epoch: the plan's epoch.
            find_partner: draws a sample of another video.

        Raises:
            ValueError: a member is missing or undecodable, or boxes are of another size than the video is shown at.
        """

        def draw(purpose: str) -> np.random.Generator:
            return generator(self.seed, facts.key, purpose, epoch if self.resample_each_epoch else None)

        # Boxes and their moment are chosen in what the policy sees; pixels are changed in the full frame.
        full = facts
        facts = self.visible.seen(full)
        videos = {(facts.key, suffix): content for suffix, content in members.items()}
        choices: dict[ViewName, FrameChoice] = {}
        for name in self._names(levels):
            source, span, read = self._source(name, facts, draw, find_partner)
            if read is not None:
                videos[source, span.member] = read(span.member)
            indices = self._indices(name, facts, span, videos)
            # A negative that reorders or alters frames keeps this clock: time belongs to the place, not to the frame.
            choices[name] = FrameChoice(source, span.member, indices, span.times(indices, full.whole()))
        shown: dict[str, FrameChoice] = {str(name): choice for name, choice in choices.items()}
        if "original" in choices and (event := self._reference_span(facts)) is not None:
            indices = event.indices(self.frames.reference_frames or 1)
            shown["reference"] = FrameChoice(facts.key, event.member, indices, event.times(indices, full.whole()))
        frames = decoded(shown, videos)
        if "object" in frames and not full.key_frame:
            height, width = frames["object"].shape[2:]
            if fault := full.video.size_fault(width, height):
                raise ValueError(f"{full.key}.mp4: {fault}")

        def view(name: ViewName, frames: Tensor, choice: FrameChoice) -> View:
            times = torch.tensor(choice.times, dtype=torch.float32)
            return View(0, name, frames, row.question, self._answers(name, row), times, row.turns)

        views = [view(name, self._shown(name, frames[name], full, draw), choice) for name, choice in choices.items()]
        if "reference" in shown:
            views.append(replace(view("original", frames["reference"], shown["reference"]), for_reference=True))
        return views

    def _source(
        self,
        name: ViewName,
        facts: SampleFacts,
        draw: Callable[[str], np.random.Generator],
        find_partner: Callable[[np.random.Generator], Partner],
    ) -> tuple[str, FrameSpan, Callable[[str], bytes] | None]:
        """Key and span of the frames that a view is made of, and what reads the members of a partner; else None."""
        span, negative = self._positive(name, facts), self._span_negative(name)
        if negative is None:
            return facts.key, span, None
        if not negative.needs_partner:
            return facts.key, negative.span(facts, span, draw(f"{name}/span")), None
        partner = find_partner(draw(f"{name}/partner"))
        return partner.facts.key, negative.span(partner.facts, span, draw(f"{name}/span")), partner.read

    def _indices(
        self, name: ViewName, facts: SampleFacts, span: FrameSpan, videos: Mapping[tuple[str, str], bytes]
    ) -> list[int]:
        """The frames of a view; one that is made of other frames than its positive has the positive's places."""
        positive, num = self._positive(name, facts), self.frames.count(name)
        if name.startswith("object"):
            return span.indices(num)
        sampler = self.frames.sampler_of(name)
        event = None if facts.event is None else facts.span_of_event(facts.event)
        content = content_of(videos, facts.key, positive.member) if sampler.reads_content else b""
        try:
            indices = sampler.indices(SampledSpan(positive, event, content, f"{facts.key}.{positive.member}"), num)
        except ValueError as error:
            raise ValueError(f"{facts.key}.{positive.member}: {error}") from error
        return indices if span == positive else sampler.moved(indices, positive, span)

    def _reference_span(self, facts: SampleFacts) -> FrameSpan | None:
        """What the reference is shown in the place of the whole video; None = the same."""
        return None if self.frames.reference_frames is None else facts.event_span()

    def members(self, facts: SampleFacts, levels: Collection[Level]) -> set[str]:
        """The members of a sample that its views may be made of."""
        facts = self.visible.seen(facts)
        members: set[str] = set()
        for name in self._names(levels):
            negative = self._span_negative(name)
            # A partner's members are read when it is drawn.
            partner = negative is not None and negative.needs_partner
            if not partner or self.frames.sampler_of(name).reads_content:
                members.add(self._positive(name, facts).member)
            if negative is not None and not partner:
                members |= {*negative.members(facts)}
            if name == "original" and (event := self._reference_span(facts)) is not None:
                members.add(event.member)
        return members

    def _names(self, levels: Collection[Level]) -> list[ViewName]:
        """The views that are needed and that the sample has, in order; the original is there without its negative."""
        absent = {view for level, views in LEVEL_VIEWS.items() if level not in levels for view in views} - {"original"}
        return [name for name in VIEW_NAMES if name in self.needs and name not in absent]

    def _positive(self, name: ViewName, facts: SampleFacts) -> FrameSpan:
        """The frames of the view, or of the view that it is the negative of."""
        match name:
            case "original" | "video_negative":
                return facts.whole()
            case "clip" | "clip_negative":
                span = facts.event_span()
            case "object" | "object_negative":
                span = facts.moment_span()
        assert span is not None, "a view of an annotation that the sample lacks"
        return span

    def _span_negative(self, name: ViewName) -> SpanNegative | None:
        return {"video_negative": self.negatives.video, "clip_negative": self.negatives.clip}.get(name)

    def _shown(
        self, name: ViewName, frames: Tensor, facts: SampleFacts, draw: Callable[[str], np.random.Generator]
    ) -> Tensor:
        """The view's frames: those decoded, changed by the view's negative."""
        negative = self._span_negative(name)
        if negative is not None:
            return negative.make(frames, draw(f"{name}/make"))
        if name == "object_negative":
            frame = self._object_negative(frames[0], facts, draw(f"{name}/make"))
            return frame.expand(len(frames), -1, -1, -1).contiguous()
        return frames

    def _object_negative(self, frame: Tensor, facts: SampleFacts, random: np.random.Generator) -> Tensor:
        """The negative of what the policy sees of a frame, in the frame; its borders stay as they are."""
        region, boxes = self.visible.region(facts), self.visible.seen(facts).moment_boxes()
        if region is None:
            return self.negatives.object.make(frame, boxes, random)
        height, width = frame.shape[1:]
        if (height, width) != (facts.video.height, facts.video.width):
            raise ValueError(
                f"{facts.key}: the boxed frame is {width} x {height}, the video {facts.video.width} x "
                f"{facts.video.height}, so its boxes cannot be placed in what the policy's processor leaves of it; "
                "prepare both at one size, or set policy.frame_fit to squash or pad"
            )
        negative = frame.clone()
        negative[region.slices] = self.negatives.object.make(frame[region.slices].contiguous(), boxes, random)
        return negative

    def _answers(self, name: ViewName, row: PreferenceRow) -> dict[AnswerName, str]:
        return {answer: text for answer in self.needs[name] if (text := getattr(row, answer))}

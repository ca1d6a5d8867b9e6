"""The dataclasses that travel from shards to losses, every field with its shape.

Frames are uint8, ``(T, 3, H, W)``; times are seconds; boxes are source pixels; log-probabilities
are nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from datamodules.video.facts import Fault, VideoFacts
from datamodules.vista.texts import is_blank, trimmed

ViewName = Literal["original", "video_negative", "clip", "clip_negative", "object", "object_negative"]
AnswerName = Literal["chosen", "rejected", "irrelevant"]
VIEW_NAMES: tuple[ViewName, ...] = get_args(ViewName)
ANSWER_NAMES: tuple[AnswerName, ...] = get_args(AnswerName)

#: Where a prompt template puts the video; no text of a row may hold it.
VIDEO_TOKEN = "<video>"  # noqa: S105

#: Which answers a method scores under which view. A view that is not named is neither decoded nor encoded.
Needs = Mapping[ViewName, tuple[AnswerName, ...]]
#: What every term of VistaDPO together asks for.
ALL_NEEDS: Needs = {
    "original": ("chosen", "rejected", "irrelevant"),
    "video_negative": ("chosen",),
    "clip": ("chosen",),
    "clip_negative": ("chosen",),
    "object": ("chosen",),
    "object_negative": ("chosen",),
}


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box in source pixels, top-left corner first; ``time`` in seconds, None = the whole event."""

    x: float
    y: float
    width: float
    height: float
    time: float | None = None


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """One annotated question about one video: the content of ``key.json`` in a VistaDPO shard.

    Attributes:
        key: the sample's name in its shard, without a dot.
        video_id: names the source video; two rows on one video share it, a partner video never does.
        question: the prompt, without a video token or chat template.
        chosen: the preferred answer, y_w.
        rejected: the relevant but wrong answer, y_re; "" where the pair differs in its video alone.
        irrelevant: the irrelevant answer, y_ir; None when the data has none.
        event: the span in which the question's event happens, seconds; None = unknown.
        boxes: the object's boxes; empty = unknown.
        video: frames, fps and size of ``key.mp4``.
        clip: frames and size of ``key.clip.mp4``, a pre-cut event clip; None when the event is a span of the video.
        clip_negative: likewise ``key.clip_negative.mp4``, a pre-cut segment without the event.
        key_frame: True when ``key.frame.jpg`` holds the frame that the boxes belong to.
        source: where the row comes from, for tables ("toy/relation", "STAR").
        rejected_video: frames and size of ``key.rejected.mp4``, a video for which the chosen answer is wrong; None when
            the data has none.
        turns: earlier questions and answers of the conversation, first to last.
        facts: what the data's own format says of the row (scores, ids, kinds of task), by its names there.
    """

    key: str
    video_id: str
    question: str
    chosen: str
    rejected: str
    video: VideoFacts
    irrelevant: str | None = None
    event: tuple[float, float] | None = None
    boxes: tuple[Box, ...] = ()
    clip: VideoFacts | None = None
    clip_negative: VideoFacts | None = None
    key_frame: bool = False
    source: str = ""
    rejected_video: VideoFacts | None = None
    turns: tuple[tuple[str, str], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types; fields that version 0.1.0 did not have are left out where they are empty."""
        row = asdict(self)
        return {name: value for name, value in row.items() if name not in _LATER or value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PreferenceRow:
        """The row that `to_json` wrote.

        Raises:
            TypeError: an unknown or a missing field.
        """
        fields = dict(data)
        if "relevant" in fields:  # its name in version 0.1.0
            fields["rejected"] = fields.pop("relevant")
        for name in ("video", "clip", "clip_negative", "rejected_video"):
            if fields.get(name) is not None:
                fields[name] = VideoFacts(**fields[name])
        if fields.get("event") is not None:
            start, end = fields["event"]
            fields["event"] = (float(start), float(end))
        fields["boxes"] = tuple(Box(**box) for box in fields.get("boxes", ()))
        fields["turns"] = tuple((str(question), str(answer)) for question, answer in fields.get("turns", ()))
        return cls(**fields)

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the row, checked once where it enters (`prepare`)."""
        faults = [
            Fault(name, "is empty; give the text, or leave the row out")
            for name in ("key", "video_id", "question", "chosen", "rejected")
            if is_blank(str(getattr(self, name))) and (name != "rejected" or self.rejected_video is None)
        ]
        if self.rejected_video is not None and self.irrelevant is not None and is_blank(self.rejected):
            faults.append(Fault("irrelevant", "comes without a rejected answer; give it as the rejected one"))
        for number, (question, answer) in enumerate(self.turns):
            if is_blank(question) or is_blank(answer) or VIDEO_TOKEN in question + answer:
                faults.append(Fault(f"turns[{number}]", f"has an empty text, or a {VIDEO_TOKEN} token"))
        if self.irrelevant is not None and is_blank(self.irrelevant):
            faults.append(Fault("irrelevant", "is empty; give the text, or leave the field out"))
        for name in ("question", *ANSWER_NAMES):
            text = getattr(self, name) or ""
            if VIDEO_TOKEN in text:
                why = f"has a {VIDEO_TOKEN} token; leave it out, the model's own template brings one"
                faults.append(Fault(name, why))
            if name in ("rejected", "irrelevant") and not is_blank(text) and trimmed(text) == trimmed(self.chosen):
                faults.append(Fault(name, "is the same text as the chosen answer; there is nothing to prefer"))
            elif name == "irrelevant" and not is_blank(text) and trimmed(text) == trimmed(self.rejected):
                faults.append(
                    Fault(name, "is the same text as the rejected answer; give another, or leave the field out")
                )
        return faults + place_faults(self.video, self.event, self.boxes)


#: Fields of a row that version 0.1.0 did not have.
_LATER = ("rejected_video", "turns", "facts")


def place_faults(video: VideoFacts, event: tuple[float, float] | None, boxes: Sequence[Box]) -> list[Fault]:
    """Everything that is wrong with where an annotation says that something is: its event and its boxes."""
    faults = []
    if event is not None:
        start, end = event
        # Half a frame of slack, as times in annotation files are rounded.
        if not 0 <= start < end <= video.duration + 0.5 / video.fps:
            faults.append(
                Fault("event", f"[{start:g}, {end:g}] s is not a span inside the video of {video.duration:g} s")
            )
    for index, box in enumerate(boxes):
        faults += [Fault(f"boxes[{index}]", why) for why in box_faults(box, video)]
    return faults


def box_faults(box: Box, video: VideoFacts) -> list[str]:
    """Why a box cannot be used on a video of this size; a box in it may pass the border by less than a pixel."""
    faults = []
    right, bottom = box.x + box.width, box.y + box.height
    far = box.x < -1 or box.y < -1 or right > video.width + 1 or bottom > video.height + 1
    beside = box.x >= video.width or box.y >= video.height or right <= 0 or bottom <= 0
    if box.width <= 0 or box.height <= 0:
        faults.append(f"has no area ({box.width:g} x {box.height:g})")
    elif far or beside:
        span = f"({box.x:g}, {box.y:g}) to ({right:g}, {bottom:g})"
        faults.append(f"{span} is outside the frame of {video.width} x {video.height}")
    if box.time is not None and not 0 <= box.time <= video.duration:
        faults.append(f"time {box.time:g} s is outside the video of {video.duration:g} s")
    return faults


@dataclass(slots=True)
class View:
    """One video with the prompt and the answers to score under it.

    Attributes:
        sample: the sample's position in the batch.
        name: which of the six views this is.
        pool: (U, 3, H, W) uint8, the frames that the view is made of, at source resolution or as small as the policy
            sees them; one tensor for all views of a batch that draw from it (`share_frames`). U, T and the size may
            differ from view to view.
        prompt: the question, without a video token or chat template: those are the policy's.
        answers: the answers by name, scored in this order.
        times: (T,) float32, seconds from the view's own start; None = not known, which only some policies accept.
        turns: earlier turns of the conversation, question and answer of each; the policy's template renders them, and
            the video is in the first.
        places: which T frames of the pool are shown, in this order; None = all of them, as they are.
        for_reference: the reference is shown this in the place of the view of its name, with the same answers.
        is_resized: the frames have the size that the policy gives them, and are not resized again.
    """

    sample: int
    name: ViewName
    pool: Tensor
    prompt: str
    answers: dict[AnswerName, str]
    times: Tensor | None = None
    turns: tuple[tuple[str, str], ...] = ()
    places: list[int] | None = None
    for_reference: bool = False
    is_resized: bool = False

    @property
    def frames(self) -> Tensor:
        """(T, 3, H, W) uint8, the frames as they are shown; made at each call where the pool is shared."""
        return self.pool if self.places is None else torch.stack([self.pool[place] for place in self.places])

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.pool if self.places is None else self.places)

    def with_frames(self, frames: Tensor) -> View:
        """The view with other frames (T, 3, H, W), which it shares with no other, and of any size."""
        return replace(self, pool=frames, places=None, is_resized=False)


@dataclass(slots=True)
class AnswerScores:
    """What a policy says of a batch's answers. Row a is the a-th answer over all views, in order.

    Attributes:
        log_probs: (A,) float32, the sum of the answer's token log-probabilities, end of sequence included.
        num_tokens: (A,) int64, how many tokens that sum runs over.
        hidden: (N, D) the last hidden states that predict the kept answers' tokens, or None when no term asks.
        hidden_answer: (N,) int64, the answer (row) of each hidden state.
    """

    log_probs: Tensor
    num_tokens: Tensor
    hidden: Tensor | None = None
    hidden_answer: Tensor | None = None


def blank_view(sample: int, num_frames: int, needs: Needs) -> View:
    """A stand-in for a sample that could not be read: its slot is masked, but every rank still makes its forward."""
    answers: dict[AnswerName, str] = dict.fromkeys(needs.get("original", ("chosen",)), "-")
    frames, times = torch.zeros(num_frames, 3, 16, 16, dtype=torch.uint8), torch.arange(num_frames, dtype=torch.float32)
    return View(sample, "original", frames, "-", answers, times)

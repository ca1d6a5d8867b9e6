"""The protocol of judges: questions with pictures in, replies as text out.

`SegmentJudge` and the benchmarks ask through it. An OpenAI-compatible endpoint is in endpoint.py, a local model in
local.py, replies that were recorded in recorded.py; what a reply says is read in replies.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, device

#: The place of a picture in a question's text.
PICTURE = "<picture>"

#: A picture: (3, H, W) uint8, or an encoded PNG or JPEG.
Picture = Tensor | bytes

#: Which of a pair's two videos.
Side = Literal["first", "second"]


class JudgeStoppedError(OSError):
    """A judge gives no more replies in this run: it does not answer, or the limit on new requests is reached.

    Earlier replies are kept by those who asked; the message says how to continue.
    """


@dataclass(frozen=True, slots=True, eq=False)
class JudgeQuestion:
    """One question to a judge; the fields after `images` say what it is about, for judges that look up the truth.

    Attributes:
        text: the question. Each `PICTURE` in it is the place of the next of `images`; without any they come before it.
        images: pictures in order, (3, H, W) uint8 tensors or encoded PNG or JPEG.
        key: the sample's key.
        segment: which segment of the pair, from 0; None = the whole video, or a question that is about no pair.
        frames: the frames of the pair's videos that the question is about.
        shown_first: which of the pair's videos is shown first; None for a question that is about no pair.
        system: the system prompt, for published protocols that have one.
        attempt: how often the same was asked before, because the reply could not be read.
    """

    text: str
    images: Sequence[Picture] = ()
    key: str = ""
    segment: int | None = None
    frames: range | None = None
    shown_first: Side | None = None
    system: str | None = None
    attempt: int = 0

    @property
    def place(self) -> str:
        """What it is about, for messages: the key, and of a pair the segment and the order of showing."""
        if self.shown_first is None:
            return repr(self.key)
        segment = "the whole video" if self.segment is None else f"segment {self.segment}"
        return f"{self.key!r}, {segment}, {self.shown_first} video shown first"

    def content(self) -> list[str | Picture]:
        """Texts and pictures in the order in which they are shown; empty texts are left out.

        Raises:
            ValueError: the text has places for another number of pictures than there are.
        """
        if not self.images:
            return [self.text]
        pieces = self.text.split(PICTURE)
        if len(pieces) == 1:  # a text without places: pictures first, as most models were trained
            return [*self.images, self.text]
        if len(pieces) - 1 != len(self.images):
            raise ValueError(
                f"question {self.key!r} has {len(pieces) - 1} places {PICTURE} for {len(self.images)} pictures"
            )
        content: list[str | Picture] = [pieces[0]]
        for image, piece in zip(self.images, pieces[1:], strict=True):
            content += [image, piece]
        return [part for part in content if not isinstance(part, str) or part.strip()]


@dataclass(frozen=True, slots=True)
class Workload:
    """What will be asked, for an estimate of the cost.

    Attributes:
        questions: how many.
        images: pictures in all questions together.
        characters: of all texts together.
        image_size: width and height of a picture in pixels; None = no pictures.
        attempts: how often one question is asked at most, where its replies cannot be read.
    """

    questions: int
    images: int = 0
    characters: int = 0
    image_size: tuple[int, int] | None = None
    attempts: int = 1


class Judge(Protocol):
    """Someone who answers questions about videos or texts. Inherit from it: all but `name` and `ask` has a default.

    Building one checks its settings and loads nothing.
    """

    @property
    def name(self) -> str:
        """Who judges, for results and labels: numbers depend on it."""
        ...

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        """The replies, in order, one a question; "" where a reply is empty.

        Raises:
            JudgeStoppedError: no reply will come in this run.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """What else decides the replies (sampling, the size of a reply), in plain JSON types; nothing secret."""
        return {}

    def check(self) -> None:
        """Refuse what can be seen to be wrong before weights are loaded and anything is asked; writes nothing.

        Raises:
            ValueError: says what.
        """

    def load(self, device: device) -> None:
        """Bring in weights, on `device`; idempotent. Nothing to do for a judge that has none."""

    def estimate(self, work: Workload) -> str:
        """One or several lines on what the work will cost; "" where it costs nothing."""
        return ""

    def summary(self) -> str:
        """One line on what this process has spent so far; "" where there is nothing to say."""
        return ""

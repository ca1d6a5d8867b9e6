"""The seams of `GroundingAnnotator`: who finds objects in frames, who compares frames with texts, who answers wrongly.

Real checkpoints are in zero_shot.py and frame_text.py, the toy world's in toy.py; wrong answers by rule in rules.py, by
a judge in predict/judged_answers.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Annotator(ABC):
    """Base of all three. Building one checks its settings and loads nothing."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Who proposes, for the record of a run."""

    def settings(self) -> dict[str, Any]:
        """What else decides the proposals, in plain JSON types; nothing secret."""
        return {}

    def check(self) -> None:  # noqa: B027 most have nothing to refuse
        """Refuse what can be seen to be wrong before weights are loaded.

        Raises:
            ValueError: says what.
        """

    def load(self, device: torch.device) -> None:  # noqa: B027 not every one has weights
        """Bring in weights, on `device`; idempotent. Nothing to do where there are none."""

    def summary(self) -> str:
        """One line on what was cut or spent in this process; "" where there is nothing to say."""
        return ""


@dataclass(frozen=True, slots=True)
class Detection:
    """Box of an object in a frame, with the confidence (0 to 1) that it is there; pixels, top left corner first."""

    x: float
    y: float
    width: float
    height: float
    confidence: float


class ObjectDetector(Annotator):
    """Base of the detectors of an object that a phrase names."""

    @abstractmethod
    def detect(self, frames: Tensor, phrase: str) -> list[Detection | None]:
        """The best box in each frame; None = there is none.

        Args:
            frames: (T, 3, H, W) uint8.
            phrase: what to look for, "red circle".
        """


class FrameScorer(Annotator):
    """Base of the models that say how well frames fit texts."""

    @abstractmethod
    def score(self, frames: Tensor, texts: Sequence[str]) -> Tensor:
        """(T, N) float32 logits on the CPU: the higher, the better frame t fits text n.

        Args:
            frames: (T, 3, H, W) uint8.
            texts: N texts.
        """


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Row for which a wrong answer is to be made.

    Attributes:
        key: the row's name.
        video: its video's name; objects of other videos may take the place of its own.
        question: the question.
        chosen: the right answer.
        frames: (T, 3, H, W) uint8, of the event where it is known; None = nobody looks at them.
    """

    key: str
    video: str
    question: str
    chosen: str
    frames: Tensor | None = None


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """Proposed wrong answer.

    Attributes:
        text: the answer.
        kind: what was changed, or who changed it.
        confidence: that it is wrong, 0 to 1; None = its maker does not know.
    """

    text: str
    kind: str
    confidence: float | None = None


class WrongAnswers(Annotator):
    """Base of the makers of answers that belong to the video and are wrong."""

    #: Why there is no answer, where there is none.
    without: str
    #: Whether requests need frames.
    sees: bool = False

    def learn(self, requests: Sequence[AnswerRequest]) -> None:
        """Take in all rows of the data set, without their frames, before the first one is asked for."""

    @abstractmethod
    def propose(self, requests: Sequence[AnswerRequest]) -> list[WrongAnswer | None]:
        """A wrong answer a request; None where there is none, see `without`."""

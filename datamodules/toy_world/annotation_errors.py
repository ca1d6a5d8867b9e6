"""Errors of automatic annotation, put into the toy world's true annotations: boxes, spans, wrong answers."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box, PreferenceRow


@dataclass(frozen=True, slots=True)
class AnnotationErrors:
    """Errors of the annotations of preference rows.

    Attributes:
        box_iou: overlap of each box with the true one (intersection over union); 1 = exact.
        event_shift: the event's span is moved by so many seconds, to either side as there is room.
        wrong: share of rows whose chosen and rejected answer are exchanged; 0.5 says nothing of which is right.
    """

    box_iou: float = 1.0
    event_shift: float = 0.0
    wrong: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.box_iou <= 1:
            raise ValueError(f"errors.box_iou is {self.box_iou}; give a number above 0, at most 1")
        if self.event_shift < 0:
            raise ValueError(f"errors.event_shift is {self.event_shift}; give 0 or more seconds")
        if not 0 <= self.wrong <= 1:
            raise ValueError(f"errors.wrong is {self.wrong}; give a share from 0 to 1")

    def applied(self, row: PreferenceRow, rng: random.Random) -> PreferenceRow:
        """The row with errors.

        Args:
            row: with an event and boxes.
            rng: the random numbers.
        """
        # Drawn in any case, so that the kinds of errors do not depend on each other.
        sign, is_wrong = rng.choice((-1, 1)), rng.random() < self.wrong
        if self.box_iou < 1:
            boxes = tuple(shifted_box(box, self.box_iou, sign, row.video) for box in row.boxes)
            row = replace(row, boxes=boxes)
        if self.event_shift and row.event is not None:
            row = replace(row, event=_shifted_span(row.event, self.event_shift, row.video.duration))
        return replace(row, chosen=row.rejected, rejected=row.chosen) if is_wrong else row


def shifted_box(box: Box, iou: float, sign: int, video: VideoFacts) -> Box:
    """The box moved sideways and up or down until it overlaps the former by `iou`, the other way where it would leave.

    Args:
        box: within the frame.
        iou: intersection over union of the two, above 0.
        sign: which way it moves first, -1 or 1.
        video: the frame's size.
    """
    # Moved by a share s of each side: intersection (1 - s)^2 = 2 iou / (1 + iou) of the box.
    share = 1 - math.sqrt(2 * iou / (1 + iou))
    x = _inside(box.x, sign * share * box.width, box.width, video.width)
    y = _inside(box.y, sign * share * box.height, box.height, video.height)
    return replace(box, x=x, y=y)


def _inside(start: float, move: float, length: float, size: int) -> float:
    """A side's start after the move, or after the opposite one where it would leave the frame."""
    return start + move if 0 <= start + move <= size - length else start - move


def _shifted_span(event: tuple[float, float], shift: float, duration: float) -> tuple[float, float]:
    """The span moved later, or earlier where there is more room; cut at the video's ends."""
    start, end = event
    move = shift if duration - end >= start else -shift
    return max(0.0, start + move), min(duration, end + move)

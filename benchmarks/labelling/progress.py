"""How far an annotator is, how fast, and how consistent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from benchmarks.labelling.questions import LabelQuestion
from datamodules.prepare.judgements import Judgement, Place

#: A longer time between two answers was a break, and says nothing of the pace.
BREAK_S = 120.0
#: The pace is that of so many answers.
_RECENT = 100


def pace(times: Sequence[str]) -> float | None:
    """Mean seconds from one answer to the next, breaks left out; None = too few answers.

    Args:
        times: of the answers, ISO 8601, in any order; "" is left out.
    """
    moments = sorted(datetime.fromisoformat(time).timestamp() for time in times if time)[-_RECENT:]
    gaps = [later - earlier for earlier, later in pairwise(moments) if later - earlier <= BREAK_S]
    return sum(gaps) / len(gaps) if gaps else None


def progress(questions: Sequence[LabelQuestion], answers: Mapping[tuple[Place, int], Judgement]) -> dict[str, Any]:
    """The numbers that the page shows, as plain JSON types.

    Args:
        questions: all that the annotator is asked.
        answers: (place, repeat) -> the annotator's answer.

    Returns:
        answered and total (questions), seconds_each and seconds_left (None = not known yet), asked_twice and alike
        (second answers, and how many of them say the same as the first), decided and left (answers that are no tie, and
        how many of them are for the left video, of which half can be expected).
    """
    answered = sum((question.place, question.repeat) in answers for question in questions)
    seconds = pace([judgement.time for judgement in answers.values()])
    twice = [
        judgement.label == answers[place, 0].label
        for (place, repeat), judgement in answers.items()
        if repeat and (place, 0) in answers
    ]
    lefts = [
        (judgement.label == 1) == (judgement.side == "first")
        for judgement in answers.values()
        if judgement.label and judgement.side
    ]
    return {
        "answered": answered,
        "total": len(questions),
        "seconds_each": seconds,
        "seconds_left": None if seconds is None else seconds * (len(questions) - answered),
        "asked_twice": len(twice),
        "alike": sum(twice),
        "decided": len(lefts),
        "left": sum(lefts),
    }

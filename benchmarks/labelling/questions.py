"""The questions that an annotator is asked: their order, the side of each video, and what is asked twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.labelling.pairs import VIDEOS, Segment, ShownPairs, Which
from datamodules.prepare.judgements import Place
from datamodules.stream.draws import generator

#: A question comes again after so many other pairs (the first and the last number that may be drawn).
REPEAT_AFTER = (3, 10)


@dataclass(frozen=True, slots=True)
class LabelQuestion:
    """One question to one annotator.

    Attributes:
        number: its place in the annotator's order, from 0.
        position: the pair's position in its index.
        place: the pair's key and the segment.
        frames: of the segment.
        repeat: 0 = asked for the first time, 1 = asked again with the sides swapped.
        left: the video that is shown on the left.
    """

    number: int
    position: int
    place: Place
    frames: range
    repeat: int
    left: Which

    @property
    def right(self) -> Which:
        """The video that is shown on the right."""
        return other(self.left)

    def label(self, answer: str) -> int:
        """The label that an answer means: +1 = the pair's first video is better.

        Args:
            answer: ``left``, ``right`` or ``tie``.
        """
        if answer == "tie":
            return 0
        return 1 if (self.left if answer == "left" else self.right) == "first" else -1

    def answer(self, label: int) -> str:
        """The answer that gives a label."""
        return "tie" if not label else "left" if (label == 1) == (self.left == "first") else "right"


def other(which: Which) -> Which:
    """The other video of the pair."""
    return VIDEOS[1 - VIDEOS.index(which)]


def plan_questions(pairs: ShownPairs, annotator: str, repeats: float, seed: int) -> list[LabelQuestion]:
    """All questions to one annotator, in their order: a pure function of the arguments.

    Pairs come in an order that the seed draws, the same for every annotator, so that what two people have labelled by
    any evening overlaps, and what one has labelled is a random sample. The segments of a pair follow each other. The
    side of each video is drawn by (key, annotator); a question that is asked twice has them swapped, some pairs later.

    Args:
        pairs: what is asked about.
        annotator: who is asked.
        repeats: the share of questions that is asked twice.
        seed: of all draws.
    """
    keys = [entry.key for entry in pairs.index.entries]
    # By a number that is drawn for each key: a pair more or less moves no other.
    order = sorted(
        range(len(keys)), key=lambda position: (generator(seed, keys[position], "label/order").random(), position)
    )
    again: dict[int, list[tuple[int, Segment, Which]]] = defaultdict(list)
    asked: list[tuple[int, Segment, Which, int]] = []
    for place, position in enumerate(order):
        random = generator(seed, keys[position], f"label/{annotator}")
        left: Which = "first" if random.random() < 0.5 else "second"
        for segment in pairs.segments(position):
            asked.append((position, segment, left, 0))
            # Drawn for each question, whatever the share: a larger share asks the same ones again, and more.
            draw, gap = random.random(), int(random.integers(REPEAT_AFTER[0], REPEAT_AFTER[1] + 1))
            if draw < repeats:
                # Near the end there are not so many pairs left; it then comes behind the last one.
                again[min(place + gap, len(order) - 1)].append((position, segment, other(left)))
        asked += [(*repeated, 1) for repeated in again.pop(place, [])]
    return [
        LabelQuestion(number, position, Place(keys[position], segment.segment), segment.frames, repeat, left)
        for number, (position, segment, left, repeat) in enumerate(asked)
    ]


def next_open(
    questions: Sequence[LabelQuestion], answered: set[tuple[Place, int]], after: int = -1
) -> LabelQuestion | None:
    """The first question without an answer behind a number; from the beginning where there is none.

    Args:
        questions: of one annotator.
        answered: (place, repeat) of what has been answered.
        after: a question's number.
    """
    for question in [*questions[after + 1 :], *questions[: after + 1]]:
        if (question.place, question.repeat) not in answered:
            return question
    return None

"""Labelling: which question an annotator is asked next, and what becomes of the answer; as the page sees it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.labelling.annotators import Annotators, clean_name
from benchmarks.labelling.label_file import LabelFile
from benchmarks.labelling.pairs import ShownPairs
from benchmarks.labelling.progress import progress
from benchmarks.labelling.questions import LabelQuestion, next_open, plan_questions
from datamodules.prepare.judgements import WHOLE, Judgement, Place, segment_length

ANSWERS = ("left", "right", "tie")


class StaleQuestionError(ValueError):
    """The page speaks of a question that is not the annotator's: the server has other settings by now."""


class Labelling:
    """One labelling of a set of pairs by any number of annotators.

    Args:
        pairs: what is asked about.
        file: where the answers go.
        repeats: the share of questions that is asked twice, in [0, 1].
        seed: decides the order, the sides and what is asked twice.

    Raises:
        ValueError: `repeats` is no share, or the file holds labels of other pairs or segments.
    """

    def __init__(self, pairs: ShownPairs, file: LabelFile, repeats: float = 0.1, seed: int = 0) -> None:
        if not 0 <= repeats <= 1:
            raise ValueError(f"repeats is {repeats:g}; give the share of questions that is asked twice, 0 to 1")
        self.pairs, self.file, self.repeats, self.seed = pairs, file, repeats, seed
        self.annotators = Annotators()
        self._questions: dict[str, list[LabelQuestion]] = {}
        self._lock = threading.Lock()
        if pairs.granularity == "segments":
            segment_length(file.path, file.judgements, pairs.segment_seconds)
        # The file is in order by itself; whether its labels fit is seen only beside the pairs.
        strange = [judgement.place for judgement in file.judgements if not pairs.has(judgement.place)]
        if strange:
            key, segment = strange[0]
            raise ValueError(
                f"{file.path}: {len(strange)} labels are of no segment of {pairs.path}, the first of them of segment "
                f"{segment} of key {key!r}; name the pairs and the segment_seconds that it was begun with, or another "
                "output"
            )

    def join(self, session: str, name: object) -> dict[str, Any]:
        """Let a window label under a name.

        Returns:
            The annotator's name as the file spells it, and the granularity.

        Raises:
            NameTakenError: another window labels under the name.
            ValueError: it is no name.
        """
        cleaned = clean_name(name)
        # Ann and ann are one person: two names would be two votes.
        spellings = {judgement.annotator.casefold(): judgement.annotator for judgement in self.file.judgements}
        annotator = spellings.get(cleaned.casefold(), cleaned)
        self.annotators.join(session, annotator)
        return {"annotator": annotator, "granularity": self.pairs.granularity}

    def questions(self, annotator: str) -> list[LabelQuestion]:
        """All questions to an annotator, in order."""
        with self._lock:
            if annotator not in self._questions:
                self._questions[annotator] = plan_questions(self.pairs, annotator, self.repeats, self.seed)
            return self._questions[annotator]

    def next(self, annotator: str, after: int = -1) -> dict[str, Any]:
        """The first open question behind a number, from the beginning where there is none behind it."""
        questions, answers = self.questions(annotator), self.file.answers(annotator)
        return self._state(questions, answers, next_open(questions, set(answers), after))

    def back(self, annotator: str, before: int) -> dict[str, Any]:
        """The last answered question before a number; the question itself where there is none."""
        questions, answers = self.questions(annotator), self.file.answers(annotator)
        answered = [question for question in questions[:before] if (question.place, question.repeat) in answers]
        current = questions[before] if 0 <= before < len(questions) else next_open(questions, set(answers))
        return self._state(questions, answers, answered[-1] if answered else current)

    def question(self, annotator: str, number: int) -> dict[str, Any]:
        """The question with a number.

        Raises:
            StaleQuestionError: there is none.
        """
        questions = self.questions(annotator)
        if not 0 <= number < len(questions):
            raise StaleQuestionError(f"there is no question {number}; reload the page")
        return self._state(questions, self.file.answers(annotator), questions[number])

    def answer(self, annotator: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Put an answer on disk, then give the next open question.

        Args:
            annotator: who answers.
            body: of the request: number, key, segment and repeat of the question, and answer, one of `ANSWERS`.

        Raises:
            StaleQuestionError: the question with this number is another one.
            ValueError: no such answer.
            ChangedFileError: another program has written the file.
            OSError: the disk is full or the like.
        """
        questions, number, answer = self.questions(annotator), body.get("number"), body.get("answer")
        if answer not in ANSWERS:
            raise ValueError(f"answer {answer!r} is none of {', '.join(ANSWERS)}")
        question = questions[number] if isinstance(number, int) and 0 <= number < len(questions) else None
        identity = (body.get("key"), body.get("segment"), body.get("repeat"))
        if question is None or identity != (*question.place, question.repeat):
            raise StaleQuestionError("the page speaks of another question than the server; reload it")
        # In UTC: those who label one data set may sit in several time zones.
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        # Left and right mean nothing later on; what is kept is which of the pair's videos is better.
        label = question.label(answer)
        seconds = None if question.place.segment is WHOLE else self.pairs.segment_seconds
        self.file.write(Judgement(0, question.place, label, annotator, question.left, time, question.repeat, seconds))
        return self.next(annotator, question.number)

    def _state(
        self,
        questions: Sequence[LabelQuestion],
        answers: Mapping[tuple[Place, int], Judgement],
        question: LabelQuestion | None,
    ) -> dict[str, Any]:
        """A question with all that the page shows beside it; question None = everything is answered."""
        shown = None if question is None else self._shown(questions, answers, question)
        return {"question": shown, "progress": progress(questions, answers)}

    def _shown(
        self,
        questions: Sequence[LabelQuestion],
        answers: Mapping[tuple[Place, int], Judgement],
        question: LabelQuestion,
    ) -> dict[str, Any]:
        row = self.pairs.rows[question.position]
        # The videos that come next: the page loads them while this pair is being judged.
        upcoming = next(
            (later for later in questions[question.number + 1 :] if later.position != question.position), None
        )
        return {
            **self._named(question, answers),
            "prompt": self.pairs.prompt(question.position),
            "fps": row.video.fps,
            "frames": row.video.frames,
            "aspect": row.video.width / row.video.height,
            "left": self._media(question, "left"),
            "right": self._media(question, "right"),
            "timeline": self._timeline(questions, answers, question),
            "upcoming": [] if upcoming is None else [self._media(upcoming, "left"), self._media(upcoming, "right")],
        }

    def _named(self, question: LabelQuestion, answers: Mapping[tuple[Place, int], Judgement]) -> dict[str, Any]:
        judgement = answers.get((question.place, question.repeat))
        return {
            "number": question.number,
            "key": question.place.key,
            "segment": question.place.segment,
            "repeat": question.repeat,
            "start": question.frames.start,
            "end": question.frames.stop,
            "answer": None if judgement is None else question.answer(judgement.label),
        }

    def _timeline(
        self,
        questions: Sequence[LabelQuestion],
        answers: Mapping[tuple[Place, int], Judgement],
        question: LabelQuestion,
    ) -> list[dict[str, Any]]:
        """The segments of the pair. Beside a second question the first answers are hidden: they would be repeated."""
        if not question.repeat:
            # The segments of a pair follow each other in the order of questions.
            count = len(self.pairs.segments(question.position))
            neighbours = questions[max(0, question.number - count) : question.number + count]
            return [
                self._named(neighbour, answers)
                for neighbour in neighbours
                if neighbour.position == question.position and not neighbour.repeat
            ]
        return [
            self._named(question, answers)
            if segment == question.place.segment
            else {"number": None, "segment": segment, "start": frames.start, "end": frames.stop, "answer": None}
            for segment, frames in self.pairs.segments(question.position)
        ]

    def _media(self, question: LabelQuestion, side: str) -> str:
        which = question.left if side == "left" else question.right
        return f"media/{self.pairs.media_name(question.position, which)}.mp4"

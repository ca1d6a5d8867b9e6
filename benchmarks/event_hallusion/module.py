"""EventHallusion (arXiv 2409.16597) as a test, with a policy or recorded answers; its scores are in `scores`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.answers import Answer
from benchmarks.base.bootstrap import Intervals, Pool, intervals
from benchmarks.base.judge_replies import UnparsedCounts
from benchmarks.base.judged import REPLIES, JudgedBenchmark
from benchmarks.base.prediction_text import recorded_text
from benchmarks.base.predictions import Identified, Recorded, RecordedFiles, answer_of, fields, recorded_lines
from benchmarks.base.source import Source
from benchmarks.event_hallusion.judge import WORDING, faults, judge_question
from benchmarks.event_hallusion.scores import (
    EventHallusionMetric,
    Predictions,
    is_description,
    parse_judgement,
    pools,
    records_of,
    tally,
)
from datamodules.questions.base import Question
from datamodules.questions.event_hallusion import DESCRIPTION, EventQuestions
from datamodules.questions.files import listed
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.policies.video_llm import VideoLLM

#: Under this name a published record has the judge's reply.
JUDGEMENT = "judgement"


class EventHallusion(JudgedBenchmark):
    """Benchmark of yes-or-no questions about events, and of descriptions that a judge compares with what happens.

    Into `output` go `predictions_NAME.json` (the published format), `results.json` (accuracies by split and both
    overalls, and under "about" what the numbers belong to), `details.json` and `answers.jsonl`.

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded answers to score again: a file of the published format, or an `answers.jsonl`; null with
            `policy`.
        judge: compares descriptions with what happens; null = descriptions count only where recorded answers have
            judgements. Its questions are worded by this project, see `benchmarks.event_hallusion.judge`.
        attempts: how often the judge is asked the same until its reply begins with yes or no.
        max_new_tokens: the longest answer, in tokens.
    """

    title = "EventHallusion"
    protocol = "EventHallusion 7396e043: the answer's beginning counts; overalls pool questions and videos"
    logged: ClassVar[Mapping[str, str]] = {
        "binary": "all/binary_accuracy",
        "description": "all/description_accuracy",
        "description_but_misleading": "all_but_misleading/description_accuracy",
    }

    def __init__(
        self,
        policy: VideoLLM | None,
        output: str,
        predictions: str | None = None,
        judge: Judge | None = None,
        attempts: int = 1,
        max_new_tokens: int = 256,
        **options: Any,
    ) -> None:
        source = Source(policy, output, predictions, max_new_tokens=max_new_tokens, **options)
        super().__init__(source, EventHallusionMetric(), judge, attempts)

    @property
    def questions(self) -> EventQuestions:
        """The data module of the questions."""
        questions: EventQuestions = self.data_module(EventQuestions)
        return questions

    def setup(self, stage: str) -> None:
        """Check the judge, then everything that all benchmarks check.

        Raises:
            ValueError: a policy is to describe videos and there is no judge, or annotations lack what it compares with.
        """
        described = self.questions.described
        if described and self.policy is not None and self.judge is None:
            raise ValueError("descriptions need a judge that compares them: give model.judge, or data.parts: [binary]")
        annotations = self.questions.annotations
        unusable = [fault for split in described for fault in faults(split, annotations[split].records)]
        if unusable and self.judge is not None:  # without a judge no description is compared
            raise ValueError(
                "the judge cannot compare all descriptions; correct the annotations, or leave splits out of "
                "data.described_splits:" + listed(unusable)
            )
        super().setup(stage)

    # Answers

    def to_judge(self, question: Question, answer: Answer) -> dict[str, JudgeQuestion]:
        """For a description, the question whether it agrees with what happens."""
        if not is_description(question.key):
            return {}
        record = self.questions.record(question)
        return {JUDGEMENT: judge_question(question.key, question.part, record, answer["predict"])}

    def readable(self, reply: str) -> bool:
        """Whether a reply is a yes or a no."""
        return parse_judgement(reply) is not None

    def item(self, question: Question, answer: Answer) -> dict[str, Any]:
        """A yes-or-no answer with the right one; a description with its judgement."""
        if not is_description(question.key):
            return {"predict": answer["predict"], "answer": question.answer}
        return {"predict": answer["predict"], **answer.get(REPLIES, {})}

    def recorded(self, path: Path) -> Recorded:
        """Published predictions, found by video and question; or the lines of an `answers.jsonl`."""
        questions = self.questions
        if path.suffix == ".jsonl":
            return recorded_lines(path, questions.everything, questions.asked)
        files, answers = RecordedFiles(), list[Identified]()
        published = files.content(path)
        for split in questions.annotations if isinstance(published, dict) else ():
            for video, record in files.named(f"{path.name}: {split}", published.get(split)).items():
                if "binary" in questions.parts:
                    place = f"{path.name}: {split}/{video}.qa"
                    for row in files.records(place, record.get("qa")):
                        # The published scorer counts a null as neither yes nor no, so that it is an answer.
                        predicted = {"predict": recorded_text(row, "prediction") or ""} if "prediction" in row else None
                        answers.append(((split, video, *fields(row, "question")), predicted))
                if split in questions.described:
                    answers.append(((split, video, None), self._description(record)))
        if not isinstance(published, dict | None):
            files.unreadable.append(f"{path.name} holds no splits by their names")
        identities = {key: self._identity(question) for key, question in questions.everything.items()}
        return files.matched(answers, identities, questions.asked)

    def _description(self, record: Mapping[str, Any]) -> Answer | None:
        """A description; without a judge in this run, one without a recorded judgement is no answer."""
        if self.judge is not None:
            return answer_of(record, "desc")
        reply = record.get(JUDGEMENT)
        if reply is None:
            return None
        return {"predict": recorded_text(record, "desc") or "", REPLIES: {JUDGEMENT: str(reply)}}

    def _identity(self, question: Question) -> tuple[str, str, str | None]:
        """Split, video and the question's text, which is None for the description."""
        name = question.key.rpartition("/")[2]
        text = None if name == DESCRIPTION else self.questions.record(question)["questions"][int(name)]["question"]
        return question.part, question.video, text

    # Scores

    def predictions_of(self, answers: Mapping[str, Answer]) -> Predictions:
        """The annotation's records with "qa", "desc" and "judgement"."""
        return records_of(answers, {name: split.records for name, split in self.questions.annotations.items()})

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """One file with all splits."""
        return {f"predictions_{self.name}.json": predictions}

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """The intervals of both accuracies, videos resampled within each split."""
        rows = {split: [tally(record) for record in records.values()] for split, records in predictions.items()}
        hits = {split: np.array([hit for hit, _ in tallies]) for split, tallies in rows.items()}
        counts = {split: np.array([count for _, count in tallies]) for split, tallies in rows.items()}
        # Summed, not averaged: the published overall counts videos, however many a split has.
        pooled = {name: Pool(members, "sum") for name, members in pools(predictions).items()}
        return intervals(hits, counts, ("binary_accuracy", "description_accuracy"), pooled, seed)

    def unparsed(self, results: Mapping[str, Any]) -> UnparsedCounts:
        """Those of the descriptions' accuracies: a judgement that is neither yes nor no counts as not accepted."""
        counts = {}
        for part, scores in results.items():
            if "videos" in scores:
                # The results have the published share; from it the count.
                unmatched = round(scores["description_unmatched"] * scores["videos"])
                counts[f"{part}/description_accuracy"] = (unmatched, scores["videos"])
        return counts

    @property
    def remarks(self) -> tuple[str, ...]:
        """A remark on the wording of the judge's questions, where there is a judge."""
        return (WORDING,) if self.judge_name is not None and self.questions.described else ()

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The judge's replies that are neither yes nor no."""
        unread = {
            f"{split}/{video}": record[JUDGEMENT]
            for split, records in predictions.items()
            for video, record in records.items()
            if JUDGEMENT in record and not self.readable(record[JUDGEMENT])
        }
        return {"unparsed_replies": unread}

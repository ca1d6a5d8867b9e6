"""MSVD-QA, MSRVTT-QA, TGIF-QA FrameQA and ActivityNet-QA as tests, with a policy or recorded answers.

The judged protocol is Video-ChatGPT's, which VistaDPO and most others report: a language model says whether an answer
is right, and how good it is from 0 to 5.
"""

from __future__ import annotations

import json
from collections.abc import Container, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.answers import Answer
from benchmarks.base.bootstrap import Intervals, intervals
from benchmarks.base.judge_replies import UnparsedCounts
from benchmarks.base.judged import REPLIES, JudgedBenchmark
from benchmarks.base.predictions import Identified, Recorded, RecordedFiles, answer_of, fields, recorded_lines, text_of
from benchmarks.base.source import Source
from benchmarks.open_qa.metric import VERDICT, OpenQaMetric, judged, wups_fault
from benchmarks.open_qa.protocol import normalized, parse_answer_verdict, question_keys
from benchmarks.videochatgpt.prompts import ZERO_SHOT
from datamodules.questions.base import Question
from datamodules.questions.open_qa import Dataset, OpenQuestions
from datamodules.questions.open_qa_files import OpenRecord
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.policies.video_llm import VideoLLM

#: The fields of a question and of its answer in published files of predictions.
_QUESTION_FIELDS, _ANSWER_FIELDS = ("Q", "question"), ("pred", "answer")


class OpenQa(JudgedBenchmark):
    """Benchmark of open-ended questions, scored by a judge and by exact match, which also is by the questions' types.

    Into `output` go `predictions_NAME.json` (Video-ChatGPT's format), `judged_NAME.json` (its combined file),
    `results.json`, `details.json` and `answers.jsonl`.

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded answers to score again: Video-ChatGPT's list of {"video_name", "Q", "A", "pred"},
            ActivityNet-QA's of {"question_id", "answer"}, Video-LLaVA's lines of {"id", "question", "answer", "pred"},
            or an `answers.jsonl`; null with `policy`.
        judge: decides whether answers are right; null = only the numbers that need no judge.
        attempts: how often the judge is asked the same until its reply can be read.
        max_new_tokens: the longest answer, in tokens.
    """

    #: The data module's name of the test set.
    dataset: ClassVar[Dataset]
    protocol = (
        "Video-ChatGPT 659e04b2: judge's yes/no and score 0-5; "
        "lmms-eval 75571cfe: reading of replies, to which JSON is added"
    )
    logged = {  # noqa: RUF012
        "accuracy": "accuracy",
        "average_score": "average_score",
        "exact_match": "exact_match/All",
        "normalized_exact_match": "normalized_exact_match/All",
        "unparsed": "unparsed",
    }
    unread = "unparsed"

    def __init__(
        self,
        policy: VideoLLM | None,
        output: str,
        predictions: str | None = None,
        judge: Judge | None = None,
        attempts: int = 1,
        max_new_tokens: int = 64,
        **options: Any,
    ) -> None:
        source = Source(policy, output, predictions, max_new_tokens=max_new_tokens, **options)
        super().__init__(source, OpenQaMetric(self.dataset), judge, attempts)

    @property
    def questions(self) -> OpenQuestions:
        """The data module of the questions.

        Raises:
            ValueError: it asks another test set's questions.
        """
        questions: OpenQuestions = self.data_module(OpenQuestions)
        if questions.dataset != self.dataset:
            raise ValueError(f"{type(self).__name__} is about {self.dataset}, data.dataset is {questions.dataset}")
        return questions

    # Answers

    def to_judge(self, question: Question, answer: Answer) -> dict[str, JudgeQuestion]:
        """The question whether an answer is right."""
        texts = {
            "question": self.questions.records[question.key].question,
            "answer": question.answer,
            "pred": answer["predict"],
        }
        return {VERDICT: ZERO_SHOT.about(question.key, texts)}

    def readable(self, reply: str) -> bool:
        """Whether a reply holds a verdict."""
        return parse_answer_verdict(reply) is not None

    def item(self, question: Question, answer: Answer) -> dict[str, Any]:
        """The answer with the right one and the question's type."""
        return {**super().item(question, answer), "type": self.questions.records[question.key].kind}

    def recorded(self, path: Path) -> Recorded:
        """Recorded answers, found by the question's id where they have it, else by video and question."""
        questions = self.questions
        files = RecordedFiles()
        rows = _json_lines(path, files) if path.suffix == ".jsonl" else files.rows(path)
        if rows is None:  # an `answers.jsonl`
            return recorded_lines(path, questions.everything, questions.asked)
        identify = _Identities(questions.file.records)
        answers: list[Identified] = [(identify.of_row(row), answer_of(row, *_ANSWER_FIELDS)) for row in rows]
        named = {identity for identity, _ in answers}
        identities = {key: identify.of_question(record, named) for key, record in questions.records.items()}
        return files.matched(answers, identities, questions.asked)

    # Scores

    def predictions_of(self, answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
        """The published records, in the questions' order."""
        records = self.questions.records
        rows = []
        for key, answer in answers.items():
            record = records[key]
            row = {
                "question_id": record.question_id,
                "video_name": record.video,
                "Q": record.question,
                "A": record.answer,
                "pred": answer["predict"],
            }
            rows.append(row | ({REPLIES: answer[REPLIES]} if REPLIES in answer else {}))
        return {self.dataset: rows}

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The predictions, and the judge's verdicts where there are some; null for one that could not be read."""
        rows = predictions[self.dataset]
        plain = [{name: value for name, value in row.items() if name != REPLIES} for row in rows]
        files: dict[str, Any] = {f"predictions_{self.name}.json": plain}
        if all(REPLIES in row for row in rows):
            verdicts = [parse_answer_verdict(row[REPLIES][VERDICT]) for row in rows]
            keys = question_keys([row["video_name"] for row in rows])
            files[f"judged_{self.name}.json"] = {
                key: [
                    None if verdict is None else verdict._asdict(),
                    {"q": row["Q"], "a": row["A"], "pred": row["pred"]},
                ]
                for key, verdict, row in zip(keys, verdicts, rows, strict=True)
            }
        return files

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """The intervals of the headline numbers, questions resampled."""
        rows = predictions[self.dataset]
        hits = [[int(row["pred"] == row["A"]), int(normalized(row["pred"]) == normalized(row["A"]))] for row in rows]
        counts: list[list[int]] = [[1, 1]] * len(rows)
        names = ["exact_match/All", "normalized_exact_match/All"]
        if judged(rows):
            verdicts = [parse_answer_verdict(row[REPLIES][VERDICT]) for row in rows]
            # Denominators as in `judged_accuracy`: yes and no for the accuracy, all parsed verdicts for the score.
            decided = [verdict is not None and verdict.pred in ("yes", "no") for verdict in verdicts]
            hits = [
                [*equal, *((0, 0) if verdict is None else (int(verdict.pred == "yes"), verdict.score))]
                for equal, verdict in zip(hits, verdicts, strict=True)
            ]
            counts = [
                [1, 1, int(is_decided), int(verdict is not None)]
                for is_decided, verdict in zip(decided, verdicts, strict=True)
            ]
            names += ["accuracy", "average_score"]
        ends = intervals({"": np.array(hits)}, {"": np.array(counts)}, names, {}, seed)
        order = ["accuracy", "average_score", *names[:2]]  # the judge's numbers are shown first
        return {name: ends[f"/{name}"] for name in order if f"/{name}" in ends}

    def unparsed(self, results: Mapping[str, Any]) -> UnparsedCounts:
        """Those of both of the judge's numbers: verdicts that cannot be read count for neither."""
        if "unparsed" not in results:
            return {}
        total = sum(results[name] for name in ("yes", "no", "neither", "unparsed"))
        return dict.fromkeys(("accuracy", "average_score"), (results["unparsed"], total))

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """Which numbers are absent and why, and the replies that could not be read."""
        absent = {"wups": wups_fault()} if wups_fault() else {}
        if self.judge_name is None:
            absent["accuracy"] = "no judge read the answers; give model.judge"
        unread = {
            row["question_id"]: row[REPLIES][VERDICT]
            for row in predictions[self.dataset]
            if REPLIES in row and not self.readable(row[REPLIES][VERDICT])
        }
        return {"absent": absent, "unparsed_replies": unread}


class MsvdQa(OpenQa):
    """MSVD-QA."""

    title = "MSVD-QA"
    dataset = "msvd_qa"


class MsrvttQa(OpenQa):
    """MSRVTT-QA."""

    title = "MSRVTT-QA"
    dataset = "msrvtt_qa"


class TgifQa(OpenQa):
    """TGIF-QA FrameQA."""

    title = "TGIF-QA"
    dataset = "tgif_qa"


class ActivityNetQa(OpenQa):
    """ActivityNet-QA."""

    title = "ActivityNet-QA"
    dataset = "activitynet_qa"


def _json_lines(path: Path, files: RecordedFiles) -> list[dict[str, Any]] | None:
    """The records of a file with one a line; None where its first readable line is one of an `answers.jsonl`."""
    content = path.read_bytes() if path.is_file() else b""
    if not path.is_file():
        files.absent.append(str(path))
    rows = []
    # Not splitlines: other line separators than this one may be within JSON texts.
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            files.unreadable.append(f"{path.name}: line {number} is not JSON ({error})")
    if rows and isinstance(rows[0], dict) and "key" in rows[0]:
        return None
    return files.records(path.name, rows)


class _Identities:
    """Identities of recorded answers: the question that an id names, else the one with its video and text.

    Args:
        records: all questions of the annotation file.
    """

    def __init__(self, records: Sequence[OpenRecord]) -> None:
        self._by_id = {record.question_id: record for record in records}
        self._known = {(record.video, record.question) for record in records}

    def of_row(self, row: Mapping[str, Any]) -> Hashable:
        """An id, or (video, question). An id that contradicts these is a row's number, and not a question's."""
        name, (video,) = text_of(row, "question_id", "id"), fields(row, "video_name")
        question = text_of(row, *_QUESTION_FIELDS)
        record = self._by_id.get(name or "")
        same_video = record is not None and video in (None, record.video)
        if record is not None and same_video and question in (None, record.question):
            return name
        if (video, question) in self._known:
            return video, question
        # Another wording of the question that the id names; or nothing but an id.
        return name if same_video or (video, question) == (None, None) else (video, question)

    def of_question(self, record: OpenRecord, named: Container[Hashable]) -> Hashable:
        """As `of_row` names it, where `named` are the names of all rows."""
        return record.question_id if record.question_id in named else (record.video, record.question)

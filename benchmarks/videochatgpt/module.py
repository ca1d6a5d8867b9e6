"""Video-ChatGPT's bench (arXiv 2306.05424): a judge scores answers from 0 to 5 in five dimensions.

Correctness, detail and context are about the same answers, temporal about others; consistency is about two answers to
two wordings of one question.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer
from benchmarks.base.bootstrap import Intervals, Pool, intervals
from benchmarks.base.judge_replies import UnparsedCounts, dimension_score, parse_score
from benchmarks.base.judged import REPLIES, JudgedBenchmark
from benchmarks.base.prediction_text import recorded_text
from benchmarks.base.predictions import Identified, Recorded, RecordedFiles, fields, recorded_lines
from benchmarks.base.source import Source
from benchmarks.videochatgpt.prompts import DIMENSIONS
from datamodules.questions.base import Question, QuestionBatch
from datamodules.questions.videochatgpt import TwiceAsked, VideoChatGptQuestions, wordings
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.policies.video_llm import VideoLLM

#: Part -> dimensions in which its answers are judged.
JUDGED_IN: Mapping[str, tuple[str, ...]] = {
    "generic": ("correctness", "detail", "context"),
    "temporal": ("temporal",),
    "consistency": ("consistency",),
}
#: Field of an answer: the reply to the second wording.
SECOND = "predict_2"


def score(replies: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """The bench's numbers from the judge's replies.

    Args:
        replies: dimension -> its replies, one a question.

    Returns:
        dimension -> {"average_score" (from 0 to 5; 0 for a reply that cannot be read, as lmms-eval counts it),
        "questions", "unparsed"}, and "all": the unweighted mean of the dimensions that there are.

    Raises:
        ValueError: no dimension, or one without a reply.
    """
    if not replies:
        raise ValueError("no replies of a judge to score")
    scores = {name: dimension_score([parse_score(reply) for reply in texts]) for name, texts in replies.items()}
    mean = sum(dimension["average_score"] for dimension in scores.values()) / len(scores)
    unparsed = sum(dimension["unparsed"] for dimension in scores.values())
    return {**scores, "all": {"average_score": mean, "unparsed": unparsed}}


class VideoChatGptMetric(AnswerMetric):
    """Metric of `score` over answers in any order and from any rank.

    `update` takes question's key -> {"replies": dimension -> the judge's reply}.
    """

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results."""
        return score(_by_dimension([item[REPLIES] for item in items.values() if REPLIES in item]))


class VideoChatGpt(JudgedBenchmark):
    """Benchmark of open answers about videos, which a judge scores in five dimensions.

    Into `output` go `PART_qa_NAME.json` (the annotation with "pred", or "pred1" and "pred2"), `results.json`,
    `details.json` and `answers.jsonl`.

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded answers to score again: a folder of `PART_qa_NAME.json`, or an `answers.jsonl` with the
            judge's replies in it; null with `policy`.
        judge: scores the answers; null only where recorded answers have its replies.
        attempts: how often the judge is asked the same until its reply can be read.
        max_new_tokens: the longest answer, in tokens.
    """

    title = "Video-ChatGPT"
    protocol = (
        "Video-ChatGPT 659e04b2: five dimensions, score 0-5; "
        "lmms-eval 75571cfe: reading of replies, to which JSON and code fences are added; an unread reply is 0"
    )
    logged = {name: f"{name}/average_score" for name in (*DIMENSIONS, "all")}  # noqa: RUF012
    unread = "all/unparsed"

    def __init__(
        self,
        policy: VideoLLM | None,
        output: str,
        predictions: str | None = None,
        judge: Judge | None = None,
        attempts: int = 1,
        max_new_tokens: int = 512,
        **options: Any,
    ) -> None:
        source = Source(policy, output, predictions, max_new_tokens=max_new_tokens, **options)
        super().__init__(source, VideoChatGptMetric(), judge, attempts)

    @property
    def questions(self) -> VideoChatGptQuestions:
        """The data module of the questions."""
        questions: VideoChatGptQuestions = self.data_module(VideoChatGptQuestions)
        return questions

    def setup(self, stage: str) -> None:
        """Check what all benchmarks check, and that answers have a judge.

        Raises:
            ValueError: answers are to be given, or were recorded without replies, and there is no judge.
        """
        super().setup(stage)
        unjudged = [key for key, answer in self._earlier.items() if REPLIES not in answer]
        if self.judge is None and (self.policy is not None or unjudged):
            raise ValueError("these answers are scored by a judge: give model.judge")

    # Answers

    def policy_answers(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """The policy's answers, and those to second wordings about the same frames."""
        answers, everything = super().policy_answers(batch, earlier), self.questions.everything
        twice = [
            (key, question.second, frames, times)
            for key, frames, times in zip(batch.keys, batch.frames, batch.times, strict=True)
            if isinstance(question := everything[key], TwiceAsked)
        ]
        if twice and self.policy is not None:
            _, prompts, frames, times = map(list, zip(*twice, strict=True))
            texts = self.policy.generate(prompts, frames, self.max_new_tokens, times=times)
            for (key, *_), text in zip(twice, texts, strict=True):
                answers[key][SECOND] = text
        return answers

    def to_judge(self, question: Question, answer: Answer) -> dict[str, JudgeQuestion]:
        """A question for each dimension of the part."""
        row = self.questions.record(question)
        texts = {"answer": row["A"], "pred": answer["predict"], "question": row.get("Q", "")}
        if isinstance(question, TwiceAsked):  # the consistency of two answers
            texts |= {"question1": row["Q1"], "question2": row["Q2"]}
            texts |= {"pred1": answer["predict"], "pred2": answer[SECOND]}
        return {
            dimension: DIMENSIONS[dimension].about(f"{question.key}/{dimension}", texts)
            for dimension in JUDGED_IN[question.part]
        }

    def readable(self, reply: str) -> bool:
        """Whether a reply holds a score."""
        return parse_score(reply) is not None

    def recorded(self, path: Path) -> Recorded:
        """Published files, found by video and question; or the lines of an `answers.jsonl`."""
        questions = self.questions
        if path.suffix == ".jsonl":
            return recorded_lines(path, questions.everything, questions.asked)
        files = RecordedFiles("PART_qa_NAME.json")
        answers: list[Identified] = [
            (_identity(part, row), _answer(part, row))
            for part in questions.parts
            for row in files.rows(path / prediction_file(part, self.name))
        ]
        identities = {key: _identity(q.part, questions.record(q)) for key, q in questions.everything.items()}
        return files.matched(answers, identities, questions.asked)

    # Scores

    def predictions_of(self, answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
        """The annotation's records with the answers and the judge's replies."""
        everything, records = self.questions.everything, dict[str, list[dict[str, Any]]]()
        for key, answer in answers.items():
            question = everything[key]
            texts = [answer[name] for name in ("predict", SECOND) if name in answer]
            predicted = dict(zip(_answer_fields(question.part), texts, strict=True))
            record = {**self.questions.record(question), **predicted, REPLIES: answer[REPLIES]}
            records.setdefault(question.part, []).append(record)
        return records

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A file for each part."""
        return {
            # The published format has no place for replies; they are in answers.jsonl.
            prediction_file(part, self.name): [
                {name: value for name, value in row.items() if name != REPLIES} for row in rows
            ]
            for part, rows in predictions.items()
        }

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """The intervals of every dimension, questions resampled alike for the dimensions of the same answers."""
        hits, counts, part_of = dict[str, ArrayLike](), dict[str, ArrayLike](), dict[str, str]()
        for part, rows in predictions.items():
            for name in JUDGED_IN[part]:
                replies = [row[REPLIES].get(name) for row in rows]
                if any(reply is not None for reply in replies):
                    # An unread reply scores 0; a question that was not judged in this dimension does not count.
                    hits[name] = np.array([[parse_score(reply or "") or 0] for reply in replies])
                    counts[name] = np.array([[reply is not None] for reply in replies])
                    part_of[name] = part
        return intervals(hits, counts, ["average_score"], {"all": Pool(list(hits), "mean")}, seed, units=part_of)

    def unparsed(self, results: Mapping[str, Any]) -> UnparsedCounts:
        """Those of every dimension, in which a reply that cannot be read counts 0, and of all together."""
        dimensions = {name: scores for name, scores in results.items() if name != "all"}
        total = sum(scores["questions"] for scores in dimensions.values())
        counts = {name: (scores["unparsed"], scores["questions"]) for name, scores in dimensions.items()}
        counts["all"] = results["all"]["unparsed"], total
        return {f"{name}/average_score": unread_and_total for name, unread_and_total in counts.items()}

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The replies that could not be read."""
        replies = _by_dimension([row[REPLIES] for rows in predictions.values() for row in rows])
        unread = {name: [text for text in texts if not self.readable(text)] for name, texts in replies.items()}
        return {"unparsed_replies": {name: texts for name, texts in unread.items() if texts}}


def prediction_file(part: str, name: str) -> str:
    """The file of a part's answers, for answers called `name`."""
    return f"{part}_qa_{name}.json"


def _answer_fields(part: str) -> tuple[str, ...]:
    """The fields of published files for the answer to each wording."""
    return tuple(wording.replace("Q", "pred") for wording in wordings(part))


def _answer(part: str, row: Mapping[str, Any]) -> Answer | None:
    """The answers to all wordings; None where one is missing."""
    texts = [recorded_text(row, name) for name in _answer_fields(part)]
    # Not strict: most parts have one wording.
    return None if None in texts else dict(zip(("predict", SECOND), texts, strict=False))


def _identity(part: str, row: Mapping[str, Any]) -> tuple[Hashable, ...]:
    return part, *fields(row, "video_name", *wordings(part))


def _by_dimension(answers: list[Mapping[str, str]]) -> dict[str, list[str]]:
    """Dimension -> replies, in the dimensions' published order."""
    by_name = {name: [answer[name] for answer in answers if name in answer] for name in DIMENSIONS}
    return {name: replies for name, replies in by_name.items() if replies}

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
from benchmarks.base.prediction_text import said_in
from benchmarks.base.predictions import Recorded, RecordedFiles, Said, fields, recorded_lines
from benchmarks.base.source import Source
from benchmarks.videochatgpt.prompts import DIMENSIONS
from datamodules.questions.base import Question, QuestionBatch
from datamodules.questions.videochatgpt import TwiceAsked, VideoChatGptQuestions, wordings
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.policies.video_llm import VideoLLM

#: In which dimensions the answers of a part are judged.
JUDGED_IN: Mapping[str, tuple[str, ...]] = {
    "generic": ("correctness", "detail", "context"),
    "temporal": ("temporal",),
    "consistency": ("consistency",),
}
#: Where an answer keeps what was said to the second wording.
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
    scores = {name: dimension_score([parse_score(reply) for reply in given]) for name, given in replies.items()}
    mean = sum(of_dimension["average_score"] for of_dimension in scores.values()) / len(scores)
    return {
        **scores,
        "all": {"average_score": mean, "unparsed": sum(of_dimension["unparsed"] for of_dimension in scores.values())},
    }


class VideoChatGptMetric(AnswerMetric):
    """`score` over answers that come one by one, in any order and from any rank.

    `update` takes question's key -> {"replies": dimension -> what the judge said}.
    """

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results."""
        return score(_by_dimension([item[REPLIES] for item in items.values() if REPLIES in item]))


class VideoChatGpt(JudgedBenchmark):
    """Asks a policy about videos, and a judge about the answers.

    Into `output` go `PART_qa_NAME.json` (the annotation with "pred", or "pred1" and "pred2"), `results.json`,
    `details.json` and `answers.jsonl`.

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded answers to score again: a folder of `PART_qa_NAME.json`, or an `answers.jsonl` with the
            judge's replies in it; null with `policy`.
        judge: scores the answers; null only where recorded answers bring its replies.
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
        """The data module that asks."""
        asks: VideoChatGptQuestions = self.asked_by(VideoChatGptQuestions)
        return asks

    def setup(self, stage: str) -> None:
        """With a look at the judge.

        Raises:
            ValueError: answers are to be given, or were recorded, and nobody scores them.
        """
        super().setup(stage)
        unjudged = [key for key, answer in self._earlier.items() if REPLIES not in answer]
        if self.judge is None and (self.policy is not None or unjudged):
            raise ValueError("these answers are scored by a judge: give model.judge")

    # Answers

    def given(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """With the answers to second wordings, about the same frames."""
        answers, everything = super().given(batch, earlier), self.questions.everything
        twice = [
            (key, one, frames, times)
            for key, frames, times in zip(batch.keys, batch.frames, batch.times, strict=True)
            if isinstance(one := everything[key], TwiceAsked)
        ]
        if twice and self.policy is not None:
            prompts, frames = [one.second for _, one, _, _ in twice], [frames for _, _, frames, _ in twice]
            clock = {"times": [times for *_, times in twice]} if getattr(self.policy, "uses_times", False) else {}
            said = self.policy.generate(prompts, frames, self.max_new_tokens, **clock)
            for (key, *_), text in zip(twice, said, strict=True):
                answers[key][SECOND] = text
        return answers

    def to_judge(self, question: Question, answer: Answer) -> dict[str, JudgeQuestion]:
        """One question for each dimension of the part."""
        row = self.questions.record(question)
        texts = {"answer": row["A"], "pred": answer["predict"], "question": row.get("Q", "")}
        if isinstance(question, TwiceAsked):
            texts |= {"question1": row["Q1"], "question2": row["Q2"]}
            texts |= {"pred1": answer["predict"], "pred2": answer[SECOND]}
        return {
            dimension: DIMENSIONS[dimension].about(f"{question.key}/{dimension}", texts)
            for dimension in JUDGED_IN[question.part]
        }

    def readable(self, reply: str) -> bool:
        """Whether it holds a score."""
        return parse_score(reply) is not None

    def recorded(self, path: Path) -> Recorded:
        """Published files, found by video and question; or the lines of an `answers.jsonl`."""
        asks = self.questions
        if path.suffix == ".jsonl":
            return recorded_lines(path, asks.everything, asks.asked)
        files = RecordedFiles("PART_qa_NAME.json")
        said: list[Said] = [
            (_identity(part, row), _answer(part, row))
            for part in asks.parts
            for row in files.rows(path / prediction_file(part, self.name))
        ]
        identities = {key: _identity(one.part, asks.record(one)) for key, one in asks.everything.items()}
        return files.matched(said, identities, asks.asked)

    # Scores

    def predictions_of(self, answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
        """The annotation's records with what was said, and the judge's replies."""
        everything, records = self.questions.everything, dict[str, list[dict[str, Any]]]()
        for key, answer in answers.items():
            one = everything[key]
            texts = [answer[name] for name in ("predict", SECOND) if name in answer]
            record = {**self.questions.record(one), **dict(zip(_said_fields(one.part), texts, strict=True))}
            records.setdefault(one.part, []).append({**record, REPLIES: answer[REPLIES]})
        return records

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A file for each part."""
        return {
            prediction_file(part, self.name): [
                {name: value for name, value in row.items() if name != REPLIES} for row in rows
            ]
            for part, rows in predictions.items()
        }

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """Of every dimension, questions resampled, once for all dimensions in which their answers are judged."""
        hits, counts, part_of = dict[str, ArrayLike](), dict[str, ArrayLike](), dict[str, str]()
        for part, rows in predictions.items():
            for name in JUDGED_IN[part]:
                replies = [row[REPLIES].get(name) for row in rows]
                if any(one is not None for one in replies):
                    hits[name] = np.array([[parse_score(one or "") or 0] for one in replies])
                    counts[name] = np.array([[one is not None] for one in replies])
                    part_of[name] = part
        return intervals(hits, counts, ["average_score"], {"all": Pool(list(hits), "mean")}, seed, units=part_of)

    def unparsed(self, results: Mapping[str, Any]) -> UnparsedCounts:
        """Of every dimension, in which a reply that cannot be read counts 0, and of all together."""
        dimensions = {name: scores for name, scores in results.items() if name != "all"}
        total = sum(scores["questions"] for scores in dimensions.values())
        counts = {name: (scores["unparsed"], scores["questions"]) for name, scores in dimensions.items()}
        counts["all"] = results["all"]["unparsed"], total
        return {f"{name}/average_score": of_one for name, of_one in counts.items()}

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The replies that could not be read."""
        replies = _by_dimension([row[REPLIES] for rows in predictions.values() for row in rows])
        unread = {name: [one for one in given if not self.readable(one)] for name, given in replies.items()}
        return {"unparsed_replies": {name: one for name, one in unread.items() if one}}


def prediction_file(part: str, name: str) -> str:
    """The file of a part's answers, for answers called `name`."""
    return f"{part}_qa_{name}.json"


def _said_fields(part: str) -> tuple[str, ...]:
    """Where published files keep what was said to each wording."""
    return tuple(wording.replace("Q", "pred") for wording in wordings(part))


def _answer(part: str, row: Mapping[str, Any]) -> Answer | None:
    """What was said to all wordings; None where something is lacking."""
    texts = [said_in(row, name) for name in _said_fields(part)]
    return None if None in texts else dict(zip(("predict", SECOND), texts, strict=False))


def _identity(part: str, row: Mapping[str, Any]) -> tuple[Hashable, ...]:
    return part, *fields(row, "video_name", *wordings(part))


def _by_dimension(answers: list[Mapping[str, str]]) -> dict[str, list[str]]:
    """Dimension -> replies, in the dimensions' published order."""
    by_name = {name: [answer[name] for answer in answers if name in answer] for name in DIMENSIONS}
    return {name: replies for name, replies in by_name.items() if replies}

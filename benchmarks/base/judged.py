"""Benchmarks whose answers a judge reads: who asks it, what is kept of its replies, and when it is asked again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer
from benchmarks.base.benchmark import Benchmark
from benchmarks.base.source import Source
from benchmarks.base.watched_judge import WatchedJudge
from datamodules.questions.base import Question, QuestionBatch
from lightning_modules.judges.base import Judge, JudgeQuestion

#: Where an answer keeps the judge's replies (name -> text), and who gave them.
REPLIES = "replies"
JUDGE = "judge"


class JudgedBenchmark(Benchmark):
    """A benchmark with a judge beside the policy.

    Replies are kept as they are, in the answers' file, so that scoring again needs no judge and an interrupted test
    asks nothing twice. Recorded answers are judged again where a judge is given; without one the replies that they
    bring count.

    Args:
        source: who answers.
        metric: the benchmark's scoring function over gathered answers.
        judge: who reads the answers; None = nobody.
        attempts: how often the judge is asked the same until its reply can be read. What cannot be read then is kept
            and counted.
    """

    def __init__(self, source: Source, metric: AnswerMetric, judge: Judge | None, attempts: int) -> None:
        super().__init__(source, metric)
        if attempts < 1:
            raise ValueError(f"model.attempts {attempts} must be at least 1")
        self.judge = None if judge is None else WatchedJudge(judge, self.readable)
        self.attempts = attempts

    @abstractmethod
    def to_judge(self, question: Question, answer: Answer) -> dict[str, JudgeQuestion]:
        """What the judge is asked about an answer, by the name under which its reply is kept."""

    @abstractmethod
    def readable(self, reply: str) -> bool:
        """Whether a reply can be parsed."""

    def given(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """The policy's answers to a batch by key."""
        return super().answered(batch, earlier)

    @property
    def judge_name(self) -> str | None:
        """Who judges; for recorded replies, who did."""
        if self.judge is not None:
            return self.judge.name
        names = {str(answer[JUDGE]) for answer in self._earlier.values() if JUDGE in answer}
        return ", ".join(sorted(names)) or None

    @property
    def keeps_answers(self) -> bool:
        """Also where a judge alone is asked."""
        return super().keeps_answers or self.judge is not None

    def taken(self, answer: Answer) -> Answer:
        """Without another judge's replies, where this run has a judge."""
        if self.judge is None:
            return answer
        return {name: value for name, value in answer.items() if name not in (REPLIES, JUDGE)}

    def settings(self) -> dict[str, Any]:
        """With the judge and how it is asked."""
        judge = self.judge
        return {
            **super().settings(),
            "judge": None if judge is None else judge.name,
            "judge_settings": None if judge is None else judge.settings(),
            "attempts": self.attempts,
        }

    def on_test_start(self) -> None:
        """Bring in the judge's weights where it has any: only now it is known on which device."""
        if self.judge is not None and self.questions.asked_now:
            self.judge.load(self.device)

    def answered(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """Answers with the judge's replies; recorded answers are judged as they are."""
        if self.policy is None:
            answers = {key: dict(earlier[key]) for key in batch.keys if key in earlier}
        else:
            answers = self.given(batch, earlier)
        if self.judge is not None:
            everything = self.questions.everything
            asked = {
                (key, name): one
                for key, answer in answers.items()
                for name, one in self.to_judge(everything[key], answer).items()
            }
            replies = self._replies(self.judge, list(asked.values()))
            for answer in answers.values():
                answer |= {REPLIES: {}, JUDGE: self.judge.name}
            for (key, name), reply in zip(asked, replies, strict=True):
                answers[key][REPLIES][name] = reply
        return answers

    def _replies(self, judge: Judge, questions: Sequence[JudgeQuestion]) -> list[str]:
        """A reply to each question, the last one where none could be read."""
        found = [""] * len(questions)
        waiting = list(range(len(questions)))
        for attempt in range(self.attempts):
            asked = [replace(questions[at], attempt=attempt) for at in waiting]
            for at, reply in zip(waiting, judge.ask(asked) if asked else (), strict=True):
                found[at] = reply
            waiting = [at for at in waiting if not self.readable(found[at])]
        return found

    def complete(self, question: Question, answer: Answer) -> bool:
        """Whether an answer is judged, by the judge of this run where there is one."""
        return self.judge is None or REPLIES in answer

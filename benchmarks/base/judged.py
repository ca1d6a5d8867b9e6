"""Base of benchmarks whose answers a judge reads: its replies are kept, and unreadable ones asked for again."""

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

#: Fields of an answer: the judge's replies (name -> text), and the judge's name.
REPLIES = "replies"
JUDGE = "judge"


class JudgedBenchmark(Benchmark):
    """Base class of benchmarks with a judge beside the policy.

    Replies are kept as they are, in the answers' file, so that scoring again needs no judge and an interrupted test
    asks nothing twice. Recorded answers are judged again where a judge is given; without one their recorded replies
    count.

    Args:
        source: who answers.
        metric: the benchmark's scoring function over gathered answers.
        judge: the model or person that reads the answers; None = nobody.
        attempts: how often the judge is asked the same until its reply can be read. A last reply that cannot be read
            is kept and counted.
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

    def policy_answers(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """The policy's answers to a batch by key."""
        return super().answers_to(batch, earlier)

    @property
    def judge_name(self) -> str | None:
        """The judge; for recorded replies, the one that gave them."""
        return recorded_judges(self._earlier) if self.judge is None else self.judge.name

    @property
    def keeps_answers(self) -> bool:
        """Also where only a judge is asked."""
        return super().keeps_answers or self.judge is not None

    def reusable(self, answer: Answer) -> Answer:
        """All fields; without another judge's replies where this run has a judge."""
        if self.judge is None:
            return answer
        return {name: value for name, value in answer.items() if name not in (REPLIES, JUDGE)}

    def settings(self) -> dict[str, Any]:
        """Those of every benchmark, the judge, and how it is asked."""
        judge = self.judge
        return {
            **super().settings(),
            "judge": None if judge is None else judge.name,
            "judge_settings": None if judge is None else judge.settings(),
            "attempts": self.attempts,
        }

    def on_test_start(self) -> None:
        """Load the judge's weights where it has any: only now the device is known."""
        if self.judge is not None and self.questions.asked_now:
            self.judge.load(self.device)

    def answers_to(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """Answers with the judge's replies; recorded answers are judged as they are."""
        if self.policy is None:  # recorded answers, of which the judge is asked
            answers = {key: dict(earlier[key]) for key in batch.keys if key in earlier}
        else:
            answers = self.policy_answers(batch, earlier)
        if self.judge is not None:
            everything = self.questions.everything
            # All questions about the batch at once: a judge asks them at the same time.
            questions = {
                (key, name): question
                for key, answer in answers.items()
                for name, question in self.to_judge(everything[key], answer).items()
            }
            replies = self._replies(self.judge, list(questions.values()))
            for answer in answers.values():
                answer |= {REPLIES: {}, JUDGE: self.judge.name}
            for (key, name), reply in zip(questions, replies, strict=True):
                answers[key][REPLIES][name] = reply
        return answers

    def _replies(self, judge: Judge, questions: Sequence[JudgeQuestion]) -> list[str]:
        """A reply to each question, the last one where none could be read."""
        replies = [""] * len(questions)
        open_indices = list(range(len(questions)))
        for attempt in range(self.attempts):
            # The attempt's number, so that no cache or recorded reply gives the same answer again.
            asked = [replace(questions[index], attempt=attempt) for index in open_indices]
            for index, reply in zip(open_indices, judge.ask(asked) if asked else (), strict=True):
                replies[index] = reply
            open_indices = [index for index in open_indices if not self.readable(replies[index])]
        return replies

    def complete(self, question: Question, answer: Answer) -> bool:
        """Whether an answer is judged, by the judge of this run where there is one."""
        return self.judge is None or REPLIES in answer


def recorded_judges(answers: Mapping[str, Answer]) -> str | None:
    """The names of the judges whose replies are in recorded answers; None where they name none."""
    names = {str(answer[JUDGE]) for answer in answers.values() if JUDGE in answer}
    return ", ".join(sorted(names)) or None

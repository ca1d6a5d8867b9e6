"""Benchmarks in which the judge is the one who is asked: it is shown generated videos and rates them."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer
from benchmarks.base.benchmark import Benchmark
from benchmarks.base.judged import JUDGE
from benchmarks.base.predictions import Recorded, matched, recorded_lines
from benchmarks.base.source import Source
from benchmarks.base.watched_judge import WatchedJudge
from datamodules.questions.base import Question, QuestionBatch
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.judges.recorded import read_replies
from lightning_modules.policies.video_llm import VideoLLM


class AskedJudge(nn.Module):
    """A judge where a benchmark expects a policy: it answers about videos, shown as their frames.

    Args:
        judge: who is asked.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self._judge = judge
        #: What answers depend on, as plain text: two judges' answers are never mixed.
        self.judge = judge.name
        self.judge_settings = json.dumps(judge.settings())

    def load(self) -> None:
        """Nothing yet: weights come when the device is known."""

    def generate(self, prompts: Sequence[str], frames: Sequence[Tensor], max_new_tokens: int) -> list[str]:
        """Answers without keys, for judges that need none."""
        return self.ask([""] * len(prompts), prompts, frames)

    def ask(self, keys: Sequence[str], prompts: Sequence[str], frames: Sequence[Tensor]) -> list[str]:
        """One answer a question.

        Args:
            keys: the questions' names, by which recorded replies are found.
            prompts: as many texts.
            frames: as many (T, 3, H, W) uint8 videos.
        """
        if frames:
            self._judge.load(frames[0].device)
        return self._judge.ask(
            [
                JudgeQuestion(text, images=list(video), key=key)
                for key, text, video in zip(keys, prompts, frames, strict=True)
            ]
        )


class RatingBenchmark(Benchmark):
    """A benchmark that a judge answers, or replies that were recorded.

    Args:
        judge: who rates the videos; None with `predictions`.
        output: the folder for the results.
        metric: the benchmark's scoring function over gathered replies.
        predictions: recorded replies; None with `judge`.
        name: what files are called after.
    """

    def __init__(
        self,
        judge: Judge | None,
        output: str,
        metric: AnswerMetric,
        predictions: str | None = None,
        name: str = "judge",
        **options: Any,
    ) -> None:
        if (judge is None) == (predictions is None):
            raise ValueError("give model.judge, who rates the videos, or model.predictions, what one said; not both")
        watched = None if judge is None else WatchedJudge(judge, self.readable)
        asked = None if watched is None else AskedJudge(watched)
        # Of a policy the base needs what `AskedJudge` has.
        source = Source(cast(VideoLLM | None, asked), output, predictions, name, max_new_tokens=0, **options)
        super().__init__(source, metric)
        self.judge = watched
        self._asked = asked

    @abstractmethod
    def readable(self, reply: str) -> bool:
        """Whether a reply can be parsed."""

    @property
    def judge_name(self) -> str | None:
        """Who rates; for recorded replies who did, where they tell it."""
        if self._asked is not None:
            return self._asked.judge
        names = {str(answer[JUDGE]) for answer in self._earlier.values() if JUDGE in answer}
        return ", ".join(sorted(names)) or None

    def answered(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """The judge's replies to a batch."""
        assert self._asked is not None
        said = self._asked.ask(batch.keys, batch.prompts, batch.frames)
        name = self._asked.judge
        return {key: {"predict": one, JUDGE: name} for key, one in zip(batch.keys, said, strict=True)}

    def recorded(self, path: Path) -> Recorded:
        """The lines of an `answers.jsonl`, or of a file of replies, {"key", "reply"}, as `ReplyLog` writes."""
        asks = self.questions
        if path.is_file() and path.read_bytes().partition(b"\n")[0].find(b'"reply"') >= 0:
            return _replies(path, asks.asked, asks.everything)
        return recorded_lines(path, asks.everything, asks.asked)

    def settings(self) -> dict[str, Any]:
        """Without what no judge has."""
        return {name: value for name, value in super().settings().items() if name != "max_new_tokens"}


def _replies(path: Path, asked: Sequence[str], everything: Mapping[str, Question]) -> Recorded:
    """Replies by key.

    Raises:
        ValueError: lists the lines that are no replies.
    """
    read_replies(path)  # for its checks; of several replies to one question it keeps the last, here they are a fault
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    said = [(one["key"], {"predict": one["reply"]}) for one in lines]
    return matched(said, {key: key for key in everything}, asked)

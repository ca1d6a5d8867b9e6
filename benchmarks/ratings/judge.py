"""Base of benchmarks in which a judge rates generated videos, in the place of a policy."""

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
from benchmarks.base.judged import JUDGE, recorded_judges
from benchmarks.base.predictions import Recorded, matched, recorded_lines
from benchmarks.base.source import Source
from benchmarks.base.watched_judge import WatchedJudge
from datamodules.questions.base import QuestionBatch
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.judges.recorded import read_replies
from lightning_modules.policies.video_llm import VideoLLM


class AskedJudge(nn.Module):
    """Adapter of a judge to what a benchmark calls of a policy: it answers about videos, shown as their frames.

    Args:
        judge: the judge.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self._judge = judge
        # Public and plain text, so that they are among the settings of the answers: two judges' are never mixed.
        self.judge = judge.name
        self.judge_settings = json.dumps(judge.settings())

    def load(self) -> None:
        """Nothing yet: weights are loaded when the device is known."""

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        """Answers without keys, for judges that need none."""
        return self.ask([""] * len(prompts), prompts, frames)

    def ask(self, keys: Sequence[str], prompts: Sequence[str], frames: Sequence[Tensor]) -> list[str]:
        """One answer a question.

        Args:
            keys: the questions' names, by which recorded replies are found.
            prompts: as many texts.
            frames: as many (T, 3, H, W) uint8 videos.
        """
        # Only the frames say on which device the benchmark runs; every further call finds the weights loaded.
        if frames:
            self._judge.load(frames[0].device)
        return self._judge.ask(
            [
                JudgeQuestion(text, images=list(video), key=key)
                for key, text, video in zip(keys, prompts, frames, strict=True)
            ]
        )


class RatingBenchmark(Benchmark):
    """Base class of benchmarks in which a judge rates videos, or its recorded replies are scored.

    Args:
        judge: rates the videos; None with `predictions`.
        output: the folder for the results.
        metric: the benchmark's scoring function over gathered replies.
        predictions: recorded replies; None with `judge`.
        name: part of the names of the files.
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
            raise ValueError(
                "give model.judge, which rates the videos, or model.predictions, recorded replies; not both"
            )
        watched = None if judge is None else WatchedJudge(judge, self.readable)
        asked = None if watched is None else AskedJudge(watched)
        # Of a policy the base class only calls what `AskedJudge` has.
        source = Source(cast(VideoLLM | None, asked), output, predictions, name, max_new_tokens=0, **options)
        super().__init__(source, metric)
        self.judge = watched
        self._asked = asked

    @abstractmethod
    def readable(self, reply: str) -> bool:
        """Whether a reply can be parsed."""

    @property
    def judge_name(self) -> str | None:
        """The judge; for recorded replies the one that gave them, where they name it."""
        return recorded_judges(self._earlier) if self._asked is None else self._asked.judge

    def answers_to(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """The judge's replies to a batch."""
        assert self._asked is not None
        replies = self._asked.ask(batch.keys, batch.prompts, batch.frames)
        name = self._asked.judge
        return {key: {"predict": reply, JUDGE: name} for key, reply in zip(batch.keys, replies, strict=True)}

    def recorded(self, path: Path) -> Recorded:
        """The lines of an `answers.jsonl`, or of a file of replies, {"key", "reply"}, as `ReplyLog` writes."""
        questions = self.questions
        if path.is_file() and b'"reply"' in path.read_bytes().partition(b"\n")[0]:
            # For its checks; of several replies to one question it keeps the last, and here they are a fault.
            read_replies(path)
            # Not splitlines: JSON may hold other ends of lines, as U+2028, within a text.
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
            answers = [(line["key"], {"predict": line["reply"]}) for line in lines]
            return matched(answers, {key: key for key in questions.everything}, questions.asked)
        return recorded_lines(path, questions.everything, questions.asked)

    def settings(self) -> dict[str, Any]:
        """Those of every benchmark, without the one that judges do not have."""
        return {name: value for name, value in super().settings().items() if name != "max_new_tokens"}

"""Base of all question benchmarks: every question asked once, answers kept as they come, results written once."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer, AnswerLog, asked_as_now, check_same, line_of
from benchmarks.base.bootstrap import Intervals
from benchmarks.base.judge_replies import UnparsedCounts
from benchmarks.base.paper_tables import PaperRow, find_row
from benchmarks.base.predictions import Recorded
from benchmarks.base.result_files import write_results
from benchmarks.base.results import number_at
from benchmarks.base.source import Source
from datamodules.questions.base import Question, QuestionBatch, VideoQuestions
from datamodules.questions.files import listed
from lightning_modules.policy_loading import settings_and_contents

#: The published predictions by part (subset, split), records as the benchmark's `score` takes them.
Predictions = Mapping[str, Any]


class Benchmark(LightningModule, ABC):
    """Base class of benchmarks that ask a policy every question, or score recorded answers.

    An interrupted evaluation goes on where it stopped; a finished one is scored again without loading the model. Into
    the output go `answers.jsonl`, `results.json` (the published result format, and under "about" what the numbers
    belong to, with an interval for every headline number) and `details.json` (everything else). A subclass defines how
    answers are scored; it needs no code for files, ranks or resuming.

    Args:
        source: who answers.
        metric: the benchmark's scoring function over gathered answers.
    """

    #: The benchmark's name in tables.
    title: ClassVar[str]
    #: Which published protocol, at which version.
    protocol: ClassVar[str]
    #: Name under `test/` in logs -> address in the results, "PART/SCORE".
    logged: ClassVar[Mapping[str, str]]
    #: Address of the number of replies that could not be read; None where the published protocol counts them.
    unread: ClassVar[str | None] = None
    #: Whether its numbers are shares, which are shown in percent.
    percent: ClassVar[bool] = True

    def __init__(self, source: Source, metric: AnswerMetric) -> None:
        super().__init__()
        if (source.policy is None) == (source.predictions is None):
            raise ValueError("give a policy that answers or a folder of recorded predictions, one of the two")
        self.policy = source.policy
        self.output = Path(source.output)
        self.predictions = None if source.predictions is None else Path(source.predictions)
        self.name = source.name
        self.max_new_tokens = source.max_new_tokens
        self.fresh = source.fresh
        self.paper: PaperRow | None = None if source.paper is None else find_row(source.paper, self.title)
        self.metric = metric
        self.log_of_answers = AnswerLog(self.output)
        self._earlier: dict[str, Answer] = {}
        #: What was found in the files of predictions.
        self.recorded_answers = Recorded()
        self._left_out: dict[str, str] = {}
        self._positions: dict[str, int] = {}

    # What a subclass defines

    @property
    @abstractmethod
    def questions(self) -> VideoQuestions:
        """The data module of the questions; `data_module` checks its class."""

    @abstractmethod
    def recorded(self, path: Path) -> Recorded:
        """The predictions made elsewhere, matched with the questions."""

    @abstractmethod
    def predictions_of(self, answers: Mapping[str, Answer]) -> Predictions:
        """The published records of all that can be scored, by part, from items (see `item`) in the questions' order."""

    @abstractmethod
    def files(self, predictions: Predictions) -> dict[str, Any]:
        """Published files of predictions: name -> content."""

    @abstractmethod
    def intervals(self, predictions: Predictions, seed: int) -> Intervals:
        """The interval of every headline number, by its address in the results."""

    def item(self, question: Question, answer: Answer) -> dict[str, Any]:
        """What the metric needs of an answer."""
        return {**answer, "answer": question.answer}

    def answers_to(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """Answers to a batch of questions by key; `earlier` holds those that `complete` calls unfinished."""
        assert self.policy is not None
        texts = self.policy.generate(
            batch.prompts, batch.frames, self.max_new_tokens, self.questions.answer_start, batch.times
        )
        return {key: {"predict": text} for key, text in zip(batch.keys, texts, strict=True)}

    def complete(self, question: Question, answer: Answer) -> bool:
        """Whether nothing remains to be asked about an earlier answer."""
        return True

    @property
    def keeps_answers(self) -> bool:
        """Whether a model is asked, so that its answers are kept and nothing is asked twice."""
        return self.policy is not None

    def reusable(self, answer: Answer) -> Answer:
        """The fields of a recorded answer that this run uses."""
        return answer

    def settings(self) -> dict[str, Any]:
        """What answers depend on besides their questions, in plain types."""
        return {
            "benchmark": self.title,
            "policy": None if self.policy is None else settings_and_contents(self.policy, nested=False),
            "precision": None if self.policy is None else str(self.trainer.precision),
            "max_new_tokens": self.max_new_tokens,
            **self.questions.settings(),
        }

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Further numbers for `details.json`."""
        return {}

    def how_measured(self) -> str:
        """Which published protocol, for the results."""
        return self.protocol

    def unparsed(self, results: Mapping[str, Any]) -> UnparsedCounts:
        """How many of the judge's replies behind each headline number could not be read, of how many."""
        return {}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know to compare these numbers with others."""
        return ()

    @property
    def judge_name(self) -> str | None:
        """The judge whose verdicts the scores are made of; None where no judge is asked."""
        return None

    def data_module(self, expected: type[VideoQuestions]) -> Any:
        """The data module, which must be of the expected class."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, expected):
            raise ValueError(
                f"{type(self).__name__} takes its questions from {expected.__name__}, not {type(data).__name__}"
            )
        return data

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Refuse what would fail only after hours; runs before any weights are loaded, after the questions' own checks.

        Raises:
            ValueError: a policy without videos or that cannot be asked so, a sharding strategy, recorded predictions
                that do not fit the questions, answers in the output that were given under other settings, to other
                questions or that differ from the recorded ones.
        """
        questions = self.questions
        if self.policy is not None and questions.videos is None:
            raise ValueError("a policy answers about videos: give data.videos, the folder of videos")
        parameters = {} if self.policy is None else inspect.signature(self.policy.generate).parameters
        if self.policy is not None and questions.answer_start and "answer_start" not in parameters:
            raise ValueError(
                f"{type(self.policy).__name__} cannot begin its answers with {questions.answer_start!r}, as this "
                "prompt asks for; choose another data.prompt"
            )
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            raise ValueError("answers differ in length, and a sharded model would wait for ever: test with DDP instead")
        self.recorded_answers = Recorded()
        if self.predictions is not None:
            self.recorded_answers = self.recorded(self.predictions)
            self.recorded_answers.check(self.predictions, questions.allow_missing)
        self._left_out = self.recorded_answers.left_out()
        self._earlier = {key: self.reusable(answer) for key, answer in self.recorded_answers.answers.items()}
        if self.keeps_answers:
            kept_answers = self._kept_answers()
            if self.predictions is not None:
                check_same(kept_answers, self._earlier, self.output)
            self._earlier |= kept_answers
        self._positions = {key: position for position, key in enumerate(questions.everything)}
        questions.skip(self._left_out.keys() | self._finished().keys())

    def _kept_answers(self) -> dict[str, Answer]:
        """The answers that earlier starts left in the output, to the questions asked now."""
        settings, log = self.settings(), self.log_of_answers
        if self.trainer.is_global_zero:
            log.begin(settings, self.fresh)
        # The other ranks read what rank 0 has made ready, and all of them refuse other settings.
        self.trainer.strategy.barrier("answers: begin")
        log.check(settings)
        kept_answers = asked_as_now(log.read(), self.questions.everything, self.output)
        return {key: kept_answers[key] for key in self.questions.asked if key in kept_answers}

    def _finished(self) -> dict[str, Answer]:
        everything = self.questions.everything
        return {key: answer for key, answer in self._earlier.items() if self.complete(everything[key], answer)}

    def configure_model(self) -> None:
        """Load the policy's weights, unless every question is answered.

        Raises:
            ValueError: questions that the policy cannot take, as with its own video token in them; before it loads.
        """
        if self.policy is None or not self.questions.asked_now:
            return
        faults = []
        if (prompt_length := getattr(self.policy, "prompt_length", None)) is not None:  # a served model has none
            for key in self.questions.asked_now:
                try:
                    prompt_length(self.questions.everything[key].prompt, f"question {key!r}")
                except ValueError as error:
                    faults.append(str(error))
        if faults:
            raise ValueError(f"{len(faults)} questions cannot be asked:{listed(faults)}")
        self.policy.load()

    def on_test_epoch_start(self) -> None:
        """Forget the answers of an earlier test; add those from the files, once over all ranks."""
        self.metric.reset()
        self.metric.update(self._items(self._finished()) if self.trainer.is_global_zero else {})

    def test_step(self, batch: QuestionBatch, batch_idx: int) -> None:
        """Answer a batch of questions; the answers are on disk before the next batch begins."""
        answers = self.answers_to(batch, self._earlier) if batch.keys else {}
        if self.keeps_answers:
            everything = self.questions.everything
            lines = [line_of(everything[key], answer) for key, answer in answers.items()]
            self.log_of_answers.append(self.global_rank, lines)
        skipped = {key: {"skipped": reason} for key, reason in batch.skipped.items()}
        self.metric.update(self._items(answers) | skipped)

    def _items(self, answers: Mapping[str, Answer]) -> dict[str, dict[str, Any]]:
        everything = self.questions.everything
        return {
            key: {"at": self._positions[key], **self.item(everything[key], answer)} for key, answer in answers.items()
        }

    def on_test_epoch_end(self) -> None:
        """Gather all ranks' answers, score them, and write the files once."""
        questions, items = self.questions, self.metric.gathered()
        undecodable = {key: item["skipped"] for key, item in items.items() if "skipped" in item}
        skipped = questions.missing | self._left_out | undecodable
        unanswered = [key for key in questions.asked if key not in items and key not in skipped]
        if unanswered:
            raise RuntimeError(
                f"no answer came back to {len(unanswered)} questions, the first is {unanswered[0]}; "
                "trainer.limit_test_batches must stay unset, data has a limit of its own"
            )
        answers = {key: item for key, item in items.items() if "skipped" not in item}
        predictions = self.predictions_of(answers)
        if not any(predictions.values()):
            raise ValueError("nothing is left to score: the missing videos or answers touch every pair or video")
        results = self.metric.compute()
        # Rank 0 joins the files of all ranks: each must have written its last line.
        self.trainer.strategy.barrier("answers: written")
        if self.trainer.is_global_zero:
            if self.keeps_answers:
                self.log_of_answers.join(list(questions.everything))
            write_results(self, predictions, results, skipped)
        self.log_dict({f"test/{name}": value for name, value in self.to_log(results, predictions).items()})

    def to_log(self, results: Mapping[str, Any], predictions: Predictions) -> dict[str, float]:
        """The numbers for loggers, under `test/`."""
        numbers = {name: number_at(results, address) for name, address in self.logged.items()}
        return {name: value for name, value in numbers.items() if value is not None}

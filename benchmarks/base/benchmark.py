"""What all question benchmarks share: every question asked once, answers kept as they come, one way of reporting."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from rich.console import Console

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer, AnswerLog, asked_as_now, check_same, line_of
from benchmarks.base.bootstrap import LEVEL, RESAMPLES, Intervals, recorded_units
from benchmarks.base.judge_replies import UnparsedCounts
from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.paper_tables import PaperRow, find_row
from benchmarks.base.predictions import Recorded
from benchmarks.base.results import ABOUT, DETAILS_FILE, RESULTS_FILE, number_at, provenance, write_json, write_units
from benchmarks.base.scoreboard import scoreboard
from benchmarks.base.source import Source
from datamodules.questions.base import Question, QuestionBatch, VideoQuestions
from lightning_modules.policy_loading import settings_and_contents

#: The published predictions by part (subset, split), records as the benchmark's `score` takes them.
Predictions = Mapping[str, Any]


class Benchmark(LightningModule, ABC):
    """Asks a policy every question, or takes recorded answers; writes answers as they come, and the scores.

    An interrupted evaluation goes on where it stopped; a finished one is scored again without loading the model. Into
    the output go `answers.jsonl`, `results.json` (the published result format, and under "about" what the numbers
    belong to, with an interval for every headline number) and `details.json` (all else). A subclass says how answers
    are scored; it needs no code for files, ranks or resuming.

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
    #: Whether its numbers are shares, which people read in percent.
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
        self._recorded = Recorded()
        self._left_out: dict[str, str] = {}
        self._places: dict[str, int] = {}

    # What a subclass fills in

    @property
    @abstractmethod
    def questions(self) -> VideoQuestions:
        """The data module that asks; `asked_by` checks its class."""

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

    def answered(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """Answers to a batch of questions by key; `earlier` holds what `complete` found to be unfinished."""
        assert self.policy is not None
        more: dict[str, Any] = {"answer_start": self.questions.answer_start} if self.questions.answer_start else {}
        more |= {"times": batch.times} if getattr(self.policy, "uses_times", False) else {}
        said = self.policy.generate(batch.prompts, batch.frames, self.max_new_tokens, **more)
        return {key: {"predict": one} for key, one in zip(batch.keys, said, strict=True)}

    def complete(self, question: Question, answer: Answer) -> bool:
        """Whether nothing remains to be asked about an earlier answer."""
        return True

    @property
    def keeps_answers(self) -> bool:
        """Whether anything is asked, whose answers are kept so that nobody is asked twice."""
        return self.policy is not None

    def taken(self, answer: Answer) -> Answer:
        """What counts of a recorded answer."""
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
        """Whose verdicts the scores are made of; None where no judge is asked."""
        return None

    def asked_by(self, kind: type[VideoQuestions]) -> Any:
        """The data module, which must be of this class."""
        source = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(source, kind):
            raise ValueError(
                f"{type(self).__name__} is asked by {kind.__module__}.{kind.__name__}, not {type(source).__name__}"
            )
        return source

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Refuse what would fail only after hours; runs before any weights are loaded, after the questions' own checks.

        Raises:
            ValueError: a policy without videos or that cannot be asked so, a sharding strategy, recorded predictions
                that do not fit the questions, answers in the output that were given under other settings, to other
                questions or to others than the recorded answers.
        """
        asks = self.questions
        if self.policy is not None and asks.videos is None:
            raise ValueError("a policy needs to see: give data.videos, the folder of videos")
        known = {} if self.policy is None else inspect.signature(self.policy.generate).parameters
        if self.policy is not None and asks.answer_start and "answer_start" not in known:
            raise ValueError(
                f"{type(self.policy).__name__} cannot begin its answers with {asks.answer_start!r}, as this prompt "
                "asks for; choose another data.prompt"
            )
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            raise ValueError("answers differ in length, and a sharded model would wait for ever: test with DDP instead")
        self._recorded = Recorded()
        if self.predictions is not None:
            self._recorded = self.recorded(self.predictions)
            self._recorded.check(self.predictions, asks.allow_missing)
        self._left_out = self._recorded.left_out()
        self._earlier = {key: self.taken(one) for key, one in self._recorded.answers.items()}
        if self.keeps_answers:
            kept = self._answered_before()
            if self.predictions is not None:
                check_same(kept, self._earlier, self.output)
            self._earlier |= kept
        self._places = {key: at for at, key in enumerate(asks.everything)}
        asks.skip(self._left_out.keys() | self._finished().keys())

    def _answered_before(self) -> dict[str, Answer]:
        """The answers that earlier starts left in the output, to the questions asked now."""
        settings, log = self.settings(), self.log_of_answers
        if self.trainer.is_global_zero:
            log.begin(settings, self.fresh)
        self.trainer.strategy.barrier("answers: begin")
        log.check(settings)
        found = asked_as_now(log.read(), self.questions.everything, self.output)
        return {key: found[key] for key in self.questions.asked if key in found}

    def _finished(self) -> dict[str, Answer]:
        everything = self.questions.everything
        return {key: answer for key, answer in self._earlier.items() if self.complete(everything[key], answer)}

    def configure_model(self) -> None:
        """Load the policy's weights, unless every question is answered."""
        if self.policy is not None and self.questions.asked_now:
            self.policy.load()

    def on_test_epoch_start(self) -> None:
        """Forget the answers of an earlier test; take in, once over all ranks, those from the files."""
        self.metric.reset()
        self.metric.update(self._items(self._finished()) if self.trainer.is_global_zero else {})

    def test_step(self, batch: QuestionBatch, batch_idx: int) -> None:
        """Answer a batch of questions; the answers are on disk before the next batch begins."""
        answers = self.answered(batch, self._earlier) if batch.keys else {}
        if self.keeps_answers:
            everything = self.questions.everything
            lines = [line_of(everything[key], answer) for key, answer in answers.items()]
            self.log_of_answers.append(self.global_rank, lines)
        self.metric.update(self._items(answers) | {key: {"skipped": why} for key, why in batch.skipped.items()})

    def _items(self, answers: Mapping[str, Answer]) -> dict[str, dict[str, Any]]:
        everything = self.questions.everything
        return {key: {"at": self._places[key], **self.item(everything[key], one)} for key, one in answers.items()}

    def on_test_epoch_end(self) -> None:
        """Gather all ranks' answers, score them, and write the files once."""
        asks, items = self.questions, self.metric.gathered()
        undecodable = {key: item["skipped"] for key, item in items.items() if "skipped" in item}
        skipped = asks.missing | self._left_out | undecodable
        lost = [key for key in asks.asked if key not in items and key not in skipped]
        if lost:
            raise RuntimeError(
                f"no answer came back to {len(lost)} questions, the first is {lost[0]}; trainer.limit_test_batches "
                "must stay unset, data has a limit of its own"
            )
        answers = {key: item for key, item in items.items() if "skipped" not in item}
        predictions = self.predictions_of(answers)
        if not any(predictions.values()):
            raise ValueError("nothing is left to score: the missing videos or answers touch every pair or video")
        results = self.metric.compute()
        self.log_of_answers.close()
        self.trainer.strategy.barrier("answers: written")
        if self.trainer.is_global_zero:
            self._write(predictions, results, skipped)
        self.log_dict({f"test/{name}": value for name, value in self.to_log(results, predictions).items()})

    def to_log(self, results: Mapping[str, Any], predictions: Predictions) -> dict[str, float]:
        """What loggers get, under `test/`."""
        found = {name: number_at(results, address) for name, address in self.logged.items()}
        return {name: value for name, value in found.items() if value is not None}

    # What is written

    def _write(self, predictions: Predictions, results: dict[str, Any], skipped: Mapping[str, str]) -> None:
        if self.keeps_answers:
            self.log_of_answers.join(list(self.questions.everything))
        for name, content in self.files(predictions).items():
            write_json(self.output / name, content)
        facts = provenance(self.trainer)
        with recorded_units() as units:
            about = self._about(predictions, results, skipped, facts)
        scored = (self.questions.everything[key] for key in self.questions.asked if key not in skipped)
        write_units(self.output, ((one.key, one.fingerprint) for one in scored), units)
        details = {
            "benchmark": self.title,
            "name": self.name,
            **self.questions.settings(),
            "annotations": about["annotations"],
            "skipped": dict(sorted(skipped.items())),
            "parameters": about["parameters"],
            **self.details(predictions),
            **facts,
        }
        write_json(self.output / DETAILS_FILE, details)
        write_json(self.output / RESULTS_FILE, {**results, ABOUT: about})
        Console().print(scoreboard(self.title, results, about))

    def _about(
        self,
        predictions: Mapping[str, Sized],
        results: Mapping[str, Any],
        skipped: Mapping[str, str],
        facts: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What the numbers belong to."""
        asks, seed = self.questions, facts["seed"] or 0
        drawn = self.intervals(predictions, seed)
        intervals = {address: ends for address, ends in drawn.items() if number_at(results, address) is not None}
        annotations = {
            part: {**source, "scored": len(predictions.get(part, ()))} for part, source in asks.sources().items()
        }
        about: dict[str, Any] = {
            "benchmark": self.title,
            "protocol": self.how_measured(),
            "annotations": annotations,
            "left_out": len(skipped),
            "recorded": None if self.predictions is None else self._recorded.counts(),
            "limit": asks.limit,
            "judge": self.judge_name,
            "unparsed": {address: list(counts) for address, counts in self.unparsed(results).items()},
            "remarks": list(self.remarks),
            "percent": self.percent,
            "parameters": self._model_size(),
            **{name: facts[name] for name in ("seed", "versions", "git_commit", "git_dirty")},
            "intervals": {"level": LEVEL, "resamples": RESAMPLES, "seed": seed, "of": intervals},
        }
        if self.paper is not None:
            unread = 0 if self.unread is None else int(number_at(results, self.unread) or 0)
            protocol = Protocol.of_run(about, asks.settings(), unread)
            about["paper"] = self.paper.compared(self.title, results, protocol)
        return about

    def _model_size(self) -> int | None:
        """How large the model is; None where only its answers are known."""
        if self.policy is None:
            return None
        if self.questions.asked_now:
            return sum(one.numel() for one in self.parameters()) or None  # a judge behind an endpoint has none
        earlier = self.output / DETAILS_FILE
        found: int | None = json.loads(earlier.read_bytes()).get("parameters") if earlier.is_file() else None
        return found

"""VideoHallucer (arXiv 2406.16338): pairs of a basic and a hallucinated question; both must be answered right.

A pair is right overall only if its basic question is answered "yes" and its hallucinated one "no", so that a model
which always says yes scores 1, 0 and 0. Scores agree with the published scorer to the last digit.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer
from benchmarks.base.benchmark import Benchmark
from benchmarks.base.bootstrap import Intervals, Pool, intervals
from benchmarks.base.prediction_text import prediction_text, require_texts
from benchmarks.base.predictions import Identified, Recorded, RecordedFiles, answer_of, fields, recorded_lines
from benchmarks.base.source import Source
from benchmarks.video_hallucer.yes_no import bias, is_hit, margin_auc
from datamodules.questions.base import QuestionBatch
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from datamodules.questions.video_hallucer_files import HALVES
from datamodules.vista.samples import View
from lightning_modules.policies.video_llm import VideoLLM

#: Published records with "predict" in both halves, by subset.
Predictions = dict[str, list[dict[str, Any]]]
#: The three numbers of every subset, and of "all".
SCORES = ("basic_accuracy", "halluc_accuracy", "accuracy")


def score(predictions: dict[str, list[dict]]) -> dict:
    """Accuracies in the published result format.

    Args:
        predictions: subset -> published records, with "predict" in both halves.

    Returns:
        subset -> {"basic_accuracy", "halluc_accuracy", "accuracy"}, shares in [0, 1], and "all": their unweighted mean
        over the subsets, whatever the subsets' sizes. The papers print "all" times 100.

    Raises:
        ValueError: no subset, an empty one, or a half without a prediction or with one that is no text.
    """
    if not predictions:
        raise ValueError("no predictions to score: give at least one subset")
    scores = {subset: _subset_score(subset, pairs) for subset, pairs in predictions.items()}
    overall = {name: sum(subset[name] for subset in scores.values()) / len(scores) for name in SCORES}
    return {**scores, "all": overall}


def _subset_score(subset: str, pairs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The accuracies of one subset, after a check that every half has a prediction that is a text."""
    if not pairs:
        raise ValueError(f"subset {subset} has no pairs; leave it out")
    lacking = [f"{row}.{half}" for row, pair in enumerate(pairs) for half in HALVES if "predict" not in pair[half]]
    if lacking:
        raise ValueError(f'subset {subset}: no "predict" in {", ".join(lacking)}; predict these questions first')
    require_texts(
        {f"{subset}/{row}.{half}": pair[half]["predict"] for row, pair in enumerate(pairs) for half in HALVES}
    )
    hits = _hits(pairs)  # columns in the order of SCORES
    return {name: sum(hit[column] for hit in hits) / len(pairs) for column, name in enumerate(SCORES)}


def _hits(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[bool, bool, bool]]:
    """Whether each pair's basic half, its hallucinated half and both are answered right."""
    halves = [
        [is_hit(pair[half]["answer"], prediction_text(pair[half]["predict"])) for half in HALVES] for pair in pairs
    ]
    return [(basic, hallucinated, basic and hallucinated) for basic, hallucinated in halves]


class VideoHallucerMetric(AnswerMetric):
    """Metric of `score` over answers in any order and from any rank.

    `update` takes a question key ("SUBSET/PAIR/HALF", see `question_key`) -> {"answer": the right one,
    "predict": the reply}. A pair with only one half is left out, and so is a subset without pairs.
    """

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The published results."""
        pairs: dict[str, dict[str, dict[str, Any]]] = {}
        for key, item in items.items():
            subset, pair, half = key.split("/")
            if "predict" in item:
                pairs.setdefault(subset, {}).setdefault(pair, {})[half] = item
        complete = {
            subset: [pair for pair in subset_pairs.values() if len(pair) == 2] for subset, subset_pairs in pairs.items()
        }
        return score({subset: subset_pairs for subset, subset_pairs in complete.items() if subset_pairs})


class VideoHallucer(Benchmark):
    """Benchmark of pairs of a basic and a hallucinated yes-or-no question.

    Into `output` go `SUBSET_NAME.json` (the annotation with "predict" in both halves), `results.json` (the published
    result format, and under "about" what the numbers belong to), `details.json` (configuration, bias, margins, and
    every question that was left out) and `answers.jsonl`.

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded answers to score again: a folder of `SUBSET_NAME.json` files, or an `answers.jsonl`; null
            with `policy`.
        margins: also compute the log-probabilities of `margin_answers`, and report the area under the ROC curve of
            their difference.
        margin_answers: two answers, yes first.
        max_new_tokens: the longest answer, in tokens.
    """

    title = "VideoHallucer"
    protocol = "VideoHallucer ae4c2f25: a word anywhere in the answer counts; all = mean over subsets"
    logged: ClassVar[Mapping[str, str]] = {
        "basic": "all/basic_accuracy",
        "hallucinated": "all/halluc_accuracy",
        "overall": "all/accuracy",
    }

    def __init__(
        self,
        policy: VideoLLM | None,
        output: str,
        predictions: str | None = None,
        margins: bool = False,
        margin_answers: tuple[str, str] = ("Yes.", "No."),
        max_new_tokens: int = 32,
        **options: Any,
    ) -> None:
        source = Source(policy, output, predictions, max_new_tokens=max_new_tokens, **options)
        super().__init__(source, VideoHallucerMetric())
        if margins and policy is None:
            raise ValueError("margins need a policy: recorded predictions hold no log-probabilities")
        self.margins = margins
        self.margin_answers = margin_answers

    @property
    def questions(self) -> VideoHallucerQuestions:
        """The data module of the questions."""
        questions: VideoHallucerQuestions = self.data_module(VideoHallucerQuestions)
        return questions

    def settings(self) -> dict[str, Any]:
        """Those of every benchmark, and the margins' answers."""
        return {**super().settings(), "margin_answers": list(self.margin_answers) if self.margins else None}

    # Answers

    def answers_to(self, batch: QuestionBatch, earlier: Mapping[str, Answer]) -> dict[str, Answer]:
        """The policy's answers, each with its margin where margins are on."""
        answers = super().answers_to(batch, earlier)
        if self.margins and self.policy is not None:
            for key, margin in zip(batch.keys, self._margins(self.policy, batch), strict=True):
                answers[key]["margin"] = margin
        return answers

    def _margins(self, policy: VideoLLM, batch: QuestionBatch) -> list[float]:
        """Log p(yes) - log p(no) of each question, nats; both answers share the question's prefix."""
        yes, no = self.margin_answers
        views = [
            View(sample, "original", frames, prompt, {"chosen": yes, "rejected": no}, times)
            for sample, (frames, prompt, times) in enumerate(zip(batch.frames, batch.prompts, batch.times, strict=True))
        ]
        with torch.no_grad():
            # float64: a margin is a small difference of two large sums.
            log_probs = policy.score(policy.encode(views)).log_probs.double().view(len(views), 2)
        margins: list[float] = (log_probs[:, 0] - log_probs[:, 1]).tolist()
        return margins

    def recorded(self, path: Path) -> Recorded:
        """Published predictions, found by video and question, in whatever order; or the lines of an `answers.jsonl`."""
        questions = self.questions
        if path.suffix == ".jsonl":
            return recorded_lines(path, questions.everything, questions.asked)
        files, answers, identities = RecordedFiles("SUBSET_NAME.json"), list[Identified](), dict[str, Hashable]()
        for subset, annotation in questions.by_subset.items():
            for pair in files.rows(path / prediction_file(subset, self.name)):
                halves = [(half, record) for half in HALVES if isinstance(record := pair.get(half), dict)]
                answers += [(_identity(subset, half, record), answer_of(record, "predict")) for half, record in halves]
            keys = [question.key for question in questions.everything.values() if question.part == subset]
            own = [_identity(subset, half, pair[half]) for pair in annotation.pairs for half in HALVES]
            identities.update(zip(keys, own, strict=True))
        return files.matched(answers, identities, questions.asked)

    # Scores

    def predictions_of(self, answers: Mapping[str, Answer]) -> Predictions:
        """The annotation's pairs with "predict" in both halves; a pair of which one half is left out is left out."""
        everything = self.questions.everything
        pairs: dict[tuple[str, int], dict[str, Answer]] = {}
        for key, answer in answers.items():
            question = everything[key]
            pairs.setdefault((question.part, question.unit), {})[key.rpartition("/")[2]] = answer
        predictions: Predictions = {}
        annotations = self.questions.by_subset
        for (subset, unit), halves in pairs.items():
            if len(halves) == len(HALVES):
                # A copy: the annotation is asked again in the next test of the same process.
                record = copy.deepcopy(annotations[subset].pairs[unit])
                for half in HALVES:
                    record[half] |= {name: halves[half][name] for name in ("predict", "margin") if name in halves[half]}
                predictions.setdefault(subset, []).append(record)
        return predictions

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A file for each subset."""
        return {prediction_file(subset, self.name): pairs for subset, pairs in predictions.items()}

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """The intervals of the three accuracies, pairs resampled within each subset, alike for equal videos."""
        hits = {subset: np.array(_hits(pairs)) for subset, pairs in predictions.items()}
        counts = {subset: np.ones_like(subset_hits) for subset, subset_hits in hits.items()}
        videos = {subset: " ".join(pair["basic"]["video"] for pair in pairs) for subset, pairs in predictions.items()}
        return intervals(hits, counts, SCORES, {"all": Pool(list(hits), "mean")}, seed, units=videos)

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The answers' bias towards yes, and how well their margins separate."""
        biases = {subset: bias(pairs) for subset, pairs in _with_pool(predictions).items()}
        return {"bias": biases, "auc": self._auc(predictions)}

    def to_log(self, results: Mapping[str, Any], predictions: Mapping[str, Any]) -> dict[str, float]:
        """The logged numbers, and the area under the ROC curve of the margins."""
        auc = (self._auc(predictions) or {}).get("all")
        return {**super().to_log(results, predictions), **({} if auc is None else {"auc": auc})}

    def _auc(self, predictions: Mapping[str, Any]) -> dict[str, float | None] | None:
        """Subset -> area under the ROC curve; None without margins."""
        if not self.margins:
            return None
        return {subset: margin_auc(pairs) for subset, pairs in _with_pool(predictions).items()}


def prediction_file(subset: str, name: str) -> str:
    """The published file of a subset's predictions, for answers called `name`."""
    return f"{subset}_{name}.json"


def _identity(subset: str, half: str, record: Mapping[str, Any]) -> tuple[Hashable, ...]:
    return subset, half, *fields(record, "video", "question")


def _with_pool(predictions: Mapping[str, Any]) -> dict[str, Any]:
    """The subsets, and "all": every pair of them."""
    return {**predictions, "all": [pair for pairs in predictions.values() for pair in pairs]}

"""VideoHallucer (arXiv 2406.16338): pairs of a basic and a hallucinated question; both must be answered right.

A pair counts as right overall only when its basic question is answered "yes" and its hallucinated one "no", so that a
model which always says yes scores 1, 0 and 0. Scores agree with the published scorer to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed

from benchmarks.predictions import Predictions, Reply, prediction_file, predictions_of, recorded_replies
from benchmarks.results import DETAILS_FILE, RESULTS_FILE, provenance, write_json
from benchmarks.yes_no import bias, is_hit, margin_auc
from datamodules.annotations import HALVES
from datamodules.questions import QuestionBatch, Questions
from datamodules.samples import View
from lightning_modules.policies.video_llm import VideoLLM


def score(predictions: dict[str, list[dict]]) -> dict:
    """Accuracies in the published result format.

    Args:
        predictions: subset -> published records, with "predict" in both halves.

    Returns:
        subset -> {"basic_accuracy", "halluc_accuracy", "accuracy"}, shares in [0, 1], and "all": their unweighted mean
        over the subsets, whatever the subsets' sizes. The papers print "all" times 100.

    Raises:
        ValueError: no subset, an empty one, or a half without a prediction.
    """
    if not predictions:
        raise ValueError("no predictions to score: give at least one subset")
    scores = {subset: _subset_score(subset, pairs) for subset, pairs in predictions.items()}
    names = ("basic_accuracy", "halluc_accuracy", "accuracy")
    overall = {name: sum(one[name] for one in scores.values()) / len(scores) for name in names}
    return {**scores, "all": overall}


def _subset_score(subset: str, pairs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    if not pairs:
        raise ValueError(f"subset {subset} has no pairs; leave it out")
    lacking = [f"{row}.{half}" for row, pair in enumerate(pairs) for half in HALVES if "predict" not in pair[half]]
    if lacking:
        raise ValueError(f'subset {subset}: no "predict" in {", ".join(lacking)}; predict these questions first')
    hits = [[is_hit(pair[half]["answer"], pair[half]["predict"]) for half in HALVES] for pair in pairs]
    return {
        "basic_accuracy": sum(basic for basic, _ in hits) / len(pairs),
        "halluc_accuracy": sum(hallucinated for _, hallucinated in hits) / len(pairs),
        "accuracy": sum(all(both) for both in hits) / len(pairs),
    }


class VideoHallucer(LightningModule):
    """Asks a policy every question, or takes recorded answers, and writes the published files.

    Into `output` go `SUBSET_NAME.json` (the annotation with "predict" in both halves), `results.json` (the published
    result format and nothing else) and `details.json` (seed, configuration, versions, commit, the annotations' hashes,
    bias, margins, and every question that was left out).

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results.
        predictions: a folder of recorded `SUBSET_NAME.json` files to score again; null with `policy`.
        name: what the answers' files are called after.
        margins: also score the two margin answers, and report the area under the ROC curve of their difference.
        margin_answers: the two answers, yes first.
        max_new_tokens: the longest answer, in tokens.
    """

    def __init__(
        self,
        policy: VideoLLM | None,
        output: str,
        predictions: str | None = None,
        name: str = "policy",
        margins: bool = False,
        margin_answers: tuple[str, str] = ("Yes.", "No."),
        max_new_tokens: int = 32,
    ) -> None:
        super().__init__()
        if (policy is None) == (predictions is None):
            raise ValueError("give a policy that answers or a folder of recorded predictions, one of the two")
        if margins and policy is None:
            raise ValueError("margins need a policy: recorded predictions hold no log-probabilities")
        self.policy = policy
        self.output = Path(output)
        self.predictions = None if predictions is None else Path(predictions)
        self.name = name
        self.margins = margins
        self.margin_answers = margin_answers
        self.max_new_tokens = max_new_tokens
        self._recorded: dict[str, Reply] = {}
        self._replies: dict[str, Reply] = {}
        self._skipped: dict[str, str] = {}

    @property
    def questions(self) -> Questions:
        """The data module that asks."""
        source = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(source, Questions):
            raise ValueError(f"VideoHallucer is asked by datamodules.questions.Questions, not {type(source).__name__}")
        return source

    def setup(self, stage: str) -> None:
        """Refuse what would fail only after hours; runs before any weights are loaded, after the questions' own checks.

        Raises:
            ValueError: a policy without videos, a sharding strategy, recorded predictions that lack an answer.
        """
        asks = self.questions
        if self.policy is not None and asks.videos is None:
            raise ValueError("a policy needs to see: give data.videos, the folder of videos")
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            raise ValueError("answers differ in length, and a sharded model would wait for ever: test with DDP instead")
        if self.predictions is not None:
            self._recorded = recorded_replies(self.predictions, self.name, asks.annotations)
            lacking = [key for key in asks.asked if key not in self._recorded]
            if lacking and not asks.allow_missing:
                raise ValueError(
                    f"{len(lacking)} questions lack an answer in {self.predictions}, the first is {lacking[0]}; "
                    "score the version of the questions that was asked, or set allow_missing: true"
                )

    def configure_model(self) -> None:
        """Load the policy's weights."""
        if self.policy is not None:
            self.policy.load()

    def on_test_epoch_start(self) -> None:
        """Forget the answers of an earlier test."""
        self._replies, self._skipped = {}, {}

    def test_step(self, batch: QuestionBatch, batch_idx: int) -> None:
        """Answer a batch of questions; the answers are kept by key until all are there."""
        self._skipped.update(batch.skipped)
        if self.policy is None:
            self._replies |= {key: self._recorded[key] for key in batch.keys if key in self._recorded}
            self._skipped |= {key: "no recorded answer" for key in batch.keys if key not in self._recorded}
        elif batch.keys:
            answers = self.policy.generate(batch.prompts, batch.frames, self.max_new_tokens)
            margins = self._margins(self.policy, batch) if self.margins else [None] * len(answers)
            self._replies.update(zip(batch.keys, map(Reply, answers, margins), strict=True))

    def _margins(self, policy: VideoLLM, batch: QuestionBatch) -> list[float]:
        """Log p(yes) - log p(no) of each question, nats; both answers share the question's prefix."""
        yes, no = self.margin_answers
        views = [
            View(sample, "original", frames, prompt, {"chosen": yes, "relevant": no})
            for sample, (frames, prompt) in enumerate(zip(batch.frames, batch.prompts, strict=True))
        ]
        with torch.no_grad():
            log_probs = policy.score(policy.encode(views)).log_probs.double().view(len(views), 2)
        margins: list[float] = (log_probs[:, 0] - log_probs[:, 1]).tolist()
        return margins

    def on_test_epoch_end(self) -> None:
        """Gather all ranks' answers, score them, and write the files once."""
        skipped = self.questions.missing | _gathered(self._skipped)
        predictions = predictions_of(self.questions.annotations, _gathered(self._replies), skipped)
        results = score(predictions)
        auc = {subset: margin_auc(pairs) for subset, pairs in _with_pool(predictions).items()} if self.margins else None
        if self.trainer.is_global_zero:
            for subset, pairs in predictions.items():
                write_json(prediction_file(self.output, subset, self.name), pairs)
            write_json(self.output / DETAILS_FILE, self._details(predictions, skipped, auc))
            write_json(self.output / RESULTS_FILE, results)
        logged = {"basic": "basic_accuracy", "hallucinated": "halluc_accuracy", "overall": "accuracy"}
        self.log_dict({f"test/{name}": results["all"][key] for name, key in logged.items()})
        if auc is not None and auc["all"] is not None:
            self.log("test/auc", auc["all"])

    def _details(
        self, predictions: Predictions, skipped: Mapping[str, str], auc: Mapping[str, float | None] | None
    ) -> dict[str, Any]:
        """All that is not in the published result format."""
        annotations = {
            one.subset: {
                "file": one.path.name,
                "sha256": one.sha256,
                "pairs": len(one.pairs),
                "scored": len(predictions.get(one.subset, ())),
            }
            for one in self.questions.annotations
        }
        return {
            "benchmark": "VideoHallucer",
            "name": self.name,
            "prompt": self.questions.prompt,
            "annotations": annotations,
            "skipped": dict(sorted(skipped.items())),
            "bias": {subset: bias(pairs) for subset, pairs in _with_pool(predictions).items()},
            "auc": auc,
            **provenance(self.trainer),
        }


def _with_pool(predictions: Predictions) -> Predictions:
    """The subsets, and "all": every pair of them."""
    return {**predictions, "all": [pair for pairs in predictions.values() for pair in pairs]}


def _gathered(own: dict[str, Any]) -> dict[str, Any]:
    """The ranks' entries in one dict; no two ranks share a key."""
    if not distributed.is_initialized():
        return own
    every: list[dict[str, Any]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(every, own)
    return {key: value for one in every for key, value in one.items()}

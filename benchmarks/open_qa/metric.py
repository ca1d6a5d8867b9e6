"""Scores of a test set of open-ended questions: the judge's numbers, and those that need no judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.judged import REPLIES
from benchmarks.open_qa.protocol import exact_match, judged_accuracy, normalized, parse_answer_verdict
from benchmarks.open_qa.wups import MISSING, wordnet_similarity, wups
from datamodules.questions.files import listed
from datamodules.questions.open_qa import Dataset

#: The name of the judge's reply about an answer.
VERDICT = "verdict"
#: WUPS at these thresholds.
WUPS_THRESHOLDS = (0.0, 0.9)

#: One answered question: "question_id", "answer", "predict"; perhaps "type" (a number) and "replies".
AnswerRecord = Mapping[str, Any]


def score(records: Sequence[AnswerRecord], dataset: Dataset = "activitynet_qa") -> dict[str, Any]:
    """All numbers of a test set.

    Args:
        records: one for each answered question.
        dataset: the test set, whose question types count.

    Returns:
        Where a judge has replied: "accuracy" and "average_score" with their counts (see `protocol.judged_accuracy`).
        And always "exact_match" and "normalized_exact_match" (see `protocol.exact_match`), and "wups" ("wups_0",
        "wups_90") where nltk and WordNet are installed; shares in [0, 1].

    Raises:
        ValueError: no records, questions that come twice, or replies to some answers only (all are listed).
    """
    predictions = {str(record["question_id"]): record["predict"] for record in records}
    results: dict[str, Any] = {}
    if judged(records):
        results |= judged_accuracy([parse_answer_verdict(record[REPLIES][VERDICT]) for record in records])
    # A test set without types has None for each question; `exact_match` expects no such field then.
    typed = [{name: value for name, value in row.items() if name != "type" or value is not None} for row in records]
    results["exact_match"] = exact_match(predictions, typed, dataset=dataset)
    results["normalized_exact_match"] = exact_match(predictions, typed, normalize=True, dataset=dataset)
    if wups_fault() is None:
        results["wups"] = _wups(records)
    return results


def judged(records: Sequence[AnswerRecord]) -> bool:
    """Whether a judge has replied to all of these, rather than to none.

    Raises:
        ValueError: it has replied to some of them; lists the others.
    """
    without = [str(record["question_id"]) for record in records if VERDICT not in record.get(REPLIES, {})]
    if without and len(without) < len(records):
        raise ValueError(
            f"{len(without)} of {len(records)} answers were never shown to the judge; give model.judge to have them "
            "judged:" + listed(without)
        )
    return not without


def wups_fault() -> str | None:
    """Why WUPS cannot be computed; None where it can."""
    try:
        wordnet_similarity()
    except (ImportError, LookupError):
        return MISSING
    return None


def _wups(records: Sequence[AnswerRecord]) -> dict[str, float]:
    """The mean at each threshold."""
    similarity, singular = wordnet_similarity()

    def words(text: str) -> list[str]:
        return [singular(word) for word in normalized(text).split()]

    pairs = [(words(record["predict"]), words(str(record["answer"]))) for record in records]
    return {
        f"wups_{threshold * 100:.0f}": sum(wups(*pair, threshold, similarity) for pair in pairs) / len(pairs)
        for threshold in WUPS_THRESHOLDS
    }


class OpenQaMetric(AnswerMetric):
    """Metric of `score` over answers in any order and from any rank.

    `update` takes question's key ("DATASET/ID") -> {"answer": the right one, "predict": the reply}, and perhaps "type"
    and "replies".

    Args:
        dataset: the test set, whose question types count.
    """

    def __init__(self, dataset: Dataset = "activitynet_qa", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dataset: Dataset = dataset

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results."""
        records = [{**item, "question_id": key} for key, item in items.items() if "predict" in item]
        return score(records, self.dataset)

"""Open-ended question answering: scores from a judge's replies, and scores that need no judge.

The judged protocol is Video-ChatGPT's (MSVD-QA, MSRVTT-QA, TGIF-QA, ActivityNet-QA: right or wrong, and a score from 0
to 5; and its own bench of five dimensions: a score). Numbers depend on the judge, so results must name it. Replies are
parsed as lmms-eval does, without a model's thinking aloud, and also where they are JSON; one that cannot be read is
None, and is counted.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.base.judge_replies import UNPARSED, dictionary_in, whole_score
from datamodules.questions.open_qa import TYPES, Dataset
from lightning_modules.judges.replies import spoken

#: ActivityNet-QA's types that are not "free" questions; other test sets have no such group.
NOT_FREE = ("Motion", "Spatial Relation", "Temporal Relation")

_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
_ARTICLES = ("a", "an", "the")


class AnswerVerdict(NamedTuple):
    """Verdict of a judge on one answer.

    Attributes:
        pred: "yes", "no", or the judge's other word.
        score: from 0 to 5, rounded down to a whole number.
    """

    pred: str
    score: int


def question_keys(video_names: Sequence[str]) -> list[str]:
    """Names of questions as published: the video's name and how often it came before, "a_0", "a_1"."""
    seen: Counter[str] = Counter()
    keys = []
    for name in video_names:
        keys.append(f"{name}_{seen[name]}")
        seen[name] += 1
    return keys


def answer_verdict_of(judged: Mapping[str, Any]) -> AnswerVerdict:
    """The verdict in a judge's dictionary. "yes" anywhere in "pred" is a yes, otherwise "no" anywhere ("unknown") a no.

    Raises:
        KeyError, AttributeError, ValueError, TypeError, OverflowError: it holds no "pred" or no score.
    """
    pred = judged["pred"].lower()
    pred = next((word for word in ("yes", "no") if word in pred), pred)  # as published
    return AnswerVerdict(pred, whole_score(judged["score"]))


def parse_answer_verdict(reply: str) -> AnswerVerdict | None:
    """The verdict in a judge's reply: the dictionary between its first "{" and the next "}", or the reply's end.

    Python as published, or JSON; None = it cannot be read.
    """
    try:
        return answer_verdict_of(dictionary_in("{" + spoken(reply).split("{")[1].split("}")[0] + "}"))
    except UNPARSED:
        return None


def judged_accuracy(verdicts: Sequence[AnswerVerdict | None]) -> dict[str, float | None]:
    """Accuracy and average score of a benchmark.

    Args:
        verdicts: one per question, None where the reply could not be parsed.

    Returns:
        "accuracy" = yes / (yes + no), in [0, 1], and "average_score" over all parsed verdicts, None where there is
        nothing to divide by; and the counts "yes", "no", "neither" and "unparsed". Neither ("partially") counts for the
        score alone, unparsed for nothing.

    Raises:
        ValueError: no verdicts.
    """
    if not verdicts:
        raise ValueError("no verdicts to count")
    parsed = [verdict for verdict in verdicts if verdict is not None]
    yes, no = (sum(verdict.pred == word for verdict in parsed) for word in ("yes", "no"))
    return {
        # As published: "partially" is in neither count, and lowers nothing.
        "accuracy": yes / (yes + no) if yes + no else None,
        "average_score": sum(verdict.score for verdict in parsed) / len(parsed) if parsed else None,
        "yes": yes,
        "no": no,
        "neither": len(parsed) - yes - no,
        "unparsed": len(verdicts) - len(parsed),
    }


def normalized(answer: str) -> str:
    """An answer without case, punctuation and articles, numbers up to twelve as digits, single spaces.

    Our own rule for `exact_match` on what a generative model says; no published number was made with it.
    """
    words = re.sub(rf"[{re.escape(string.punctuation)}]", " ", answer.lower()).split()
    digits = {word: str(number) for number, word in enumerate(_NUMBERS)}
    return " ".join(digits.get(word, word) for word in words if word not in _ARTICLES)


def exact_match(
    predictions: Mapping[str, str],
    annotations: Sequence[Mapping[str, Any]],
    normalize: bool = False,
    dataset: Dataset = "activitynet_qa",
) -> dict[str, float]:
    """Top-1 accuracy without a judge, as ActivityNet-QA scores it.

    Args:
        predictions: question id -> answer.
        annotations: published records with "question_id", "answer" and, where the test set has types, "type" as a
            number.
        normalize: compare `normalized` answers; otherwise the strings must be equal.
        dataset: the test set, whose question types count.

    Returns:
        "All", and where questions have types every one that occurs, in [0, 1]; in ActivityNet-QA also "Free" (all
        types but motion and relations). The published script's "Free" differs: it divides by a wrong count.

    Raises:
        ValueError: no questions, one without a prediction, or one that is asked twice.
    """
    ids = Counter(str(record["question_id"]) for record in annotations)
    faults = [f"{key} has no prediction" for key in ids if key not in predictions]
    faults += [f"{key} is asked {count} times" for key, count in ids.items() if count > 1]
    if faults or not ids:
        raise ValueError("cannot score these questions: " + ("; ".join(faults) or "there are none"))
    groups: dict[str, list[bool]] = {"All": []}
    for record in annotations:
        prediction, answer = predictions[str(record["question_id"])], str(record["answer"])
        hit = normalized(prediction) == normalized(answer) if normalize else prediction == answer
        groups["All"].append(hit)
        if "type" in record:
            kind = TYPES[dataset][int(record["type"])]
            free = dataset == "activitynet_qa" and kind not in NOT_FREE
            for name in (kind, *(["Free"] if free else [])):
                groups.setdefault(name, []).append(hit)
    return {name: sum(hits) / len(hits) for name, hits in groups.items()}

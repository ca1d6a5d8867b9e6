"""EventHallusion (arXiv 2409.16597): yes-or-no questions about events, and descriptions that a judge has compared.

Three splits: entire (common events), interleave ("Mix" in tables, an unexpected event among common ones) and misleading
(questions that suggest a wrong event). Within a split every right answer is the same, so that a model which always
gives it scores 1: report all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.prediction_text import prediction_text, require_texts
from datamodules.questions.event_hallusion import DESCRIPTION
from lightning_modules.judges.replies import spoken

#: The split that VistaDPO's table leaves out of the descriptions.
MISLEADING = "misleading"

PublishedRecord = Mapping[str, Any]
#: Split -> video id -> published record.
Predictions = dict[str, dict[str, dict[str, Any]]]


def score(predictions: dict[str, dict[str, dict]], allow_missing: bool = False) -> dict[str, dict[str, float]]:
    """Accuracies from the published file of predictions.

    Args:
        predictions: split -> video id -> record with "qa" (a list of {"question", "answer": "Yes." or "No.",
            "prediction"}), with "judgement" (the judge's reply to the description), or with both.
        allow_missing: leave videos that lack a part of their split out of that part; otherwise they are an error.

    Returns:
        split -> {"binary_accuracy", "binary_unmatched", "questions"} where its videos have "qa", and
        {"description_accuracy", "description_unmatched", "videos"} where they have "judgement". Accuracies, and the
        unmatched that are neither yes nor no and count as wrong, are shares in [0, 1]; the others are counts. Two more
        entries pool questions and videos: "all", the published script's overall, and "all_but_misleading". The overall
        of VistaDPO's table is "all" for binary and "all_but_misleading" for description. An entry leaves out a part
        that some of its splits lack.

    Raises:
        ValueError: no split, an empty one, one in which only some videos have answers or a judgement, or a prediction
            that is no text.
    """
    if not predictions:
        raise ValueError("no predictions to score: give at least one split")
    splits = {split: _checked(split, records, allow_missing) for split, records in predictions.items()}
    members_of = {split: [split] for split in splits} | pools(splits)
    return {name: _scores([splits[split] for split in members]) for name, members in members_of.items()}


def pools(splits: Mapping[str, Any]) -> dict[str, list[str]]:
    """The two overall scores, each with the splits that it pools."""
    members_of = {"all": list(splits), "all_but_misleading": [split for split in splits if split != MISLEADING]}
    return {name: members for name, members in members_of.items() if members}


def parse_answer(prediction: str | None) -> str | None:
    """The answer "Yes." or "No.", by the beginning of the prediction in upper or lower case; None for another one.

    This is the published rule, with its consequences: " Yes" and "**Yes**" are neither, "Not really" is a no, and
    "Yesterday" a yes.
    """
    return {"yes": "Yes.", "no": "No.", None: None}[_beginning(prediction)]


def parse_judgement(reply: str | None) -> bool | None:
    """Whether the judge accepts a description: as `parse_answer`, without thinking aloud and "*" (bold face)."""
    return {"yes": True, "no": False, None: None}[
        _beginning(None if reply is None else spoken(prediction_text(reply)).replace("*", ""))
    ]


def _beginning(text: str | None) -> str | None:
    lower = ("" if text is None else prediction_text(text)).lower()
    return next((word for word in ("yes", "no") if lower.startswith(word)), None)


def _checked(split: str, records: Mapping[str, PublishedRecord], allow_missing: bool) -> list[PublishedRecord]:
    """The split's records, after a check that each has the same of both parts, unless some may be missing."""
    if not records:
        raise ValueError(f"split {split} has no videos; leave it out")
    for part in ("qa", "judgement"):
        lacking = [video for video, record in records.items() if part not in record]
        if 0 < len(lacking) < len(records) and not allow_missing:
            raise ValueError(f'split {split}: no "{part}" for {", ".join(lacking)}; finish these or leave them out')
    neither = [video for video, record in records.items() if "qa" not in record and "judgement" not in record]
    if neither:
        raise ValueError(f'split {split} has neither "qa" nor "judgement"; ask its questions first')
    lacking = [
        f"{video}.{index}"
        for video, record in records.items()
        for index, question in enumerate(record.get("qa", ()))
        if "prediction" not in question
    ]
    if lacking:
        raise ValueError(f'split {split}: no "prediction" in {", ".join(lacking)}; predict these questions first')
    texts = {f"{split}/{video}.qa.{index}": question["prediction"]
             for video, record in records.items() for index, question in enumerate(record.get("qa", ()))}  # fmt: skip
    texts |= {f"{split}/{video}.judgement": r["judgement"] for video, r in records.items() if "judgement" in r}
    # A null is a prediction that is neither yes nor no.
    require_texts({place: text for place, text in texts.items() if text is not None})
    return list(records.values())


def _scores(splits: Sequence[Sequence[PublishedRecord]]) -> dict[str, float]:
    """Both parts' scores over some splits; a part that one of these lacks is left out."""
    scores: dict[str, float] = {}
    if all(any("qa" in record for record in records) for records in splits):
        questions = [question for records in splits for record in records for question in record.get("qa", ())]
        answers = [parse_answer(question["prediction"]) for question in questions]
        right = sum(answer == question["answer"] for answer, question in zip(answers, questions, strict=True))
        scores |= {
            "binary_accuracy": right / len(questions),
            "binary_unmatched": answers.count(None) / len(questions),
            "questions": len(questions),
        }
    if all(any("judgement" in record for record in records) for records in splits):
        replies = [record["judgement"] for records in splits for record in records if "judgement" in record]
        verdicts = [parse_judgement(reply) for reply in replies]
        scores |= {
            "description_accuracy": verdicts.count(True) / len(verdicts),
            "description_unmatched": verdicts.count(None) / len(verdicts),
            "videos": len(verdicts),
        }
    return scores


class EventHallusionMetric(AnswerMetric):
    """Metric of `score` over answers in any order and from any rank.

    `update` takes question's key -> {"answer": "Yes." or "No.", "predict": the reply} for "SPLIT/VIDEO/NUMBER", and
    {"judgement": the judge's reply} for "SPLIT/VIDEO/description". Only given items count.
    """

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The published results."""
        return score(records_of(items, {}), allow_missing=True)


def is_description(key: str) -> bool:
    """Whether a question's key is that of a description."""
    return key.endswith(f"/{DESCRIPTION}")


def records_of(
    items: Mapping[str, Mapping[str, Any]], annotations: Mapping[str, Mapping[str, PublishedRecord]]
) -> Predictions:
    """Published records with "qa", "desc" and "judgement".

    Args:
        items: question's key -> answer, see `EventHallusionMetric`.
        annotations: split -> video id -> the annotation's record, to which the answers are added; empty = answers only.
    """
    predictions: Predictions = {}
    for key, item in items.items():
        split, video, name = key.split("/")
        annotation = annotations.get(split, {}).get(video, {})
        if name == DESCRIPTION:
            texts = {"desc": item.get("predict"), "judgement": item.get("judgement")}
            texts = {field: text for field, text in texts.items() if text is not None}
            if texts:
                predictions.setdefault(split, {}).setdefault(video, dict(annotation)).update(texts)
        elif "predict" in item:
            record = predictions.setdefault(split, {}).setdefault(video, dict(annotation))
            question = annotation["questions"][int(name)]["question"] if annotation else ""
            asked = {"question": question, "answer": item["answer"], "prediction": item["predict"]}
            record.setdefault("qa", []).append(asked)
    # A description that no judge has compared is not scored.
    return {split: {video: record for video, record in records.items() if "qa" in record or "judgement" in record}
            for split, records in predictions.items()}  # fmt: skip


def tally(record: PublishedRecord) -> tuple[tuple[int, int], tuple[int, int]]:
    """(right answers, accepted descriptions), (questions, descriptions) of a video."""
    questions = record.get("qa", ())
    right = sum(parse_answer(question["prediction"]) == question["answer"] for question in questions)
    judged = "judgement" in record
    return (right, int(judged and parse_judgement(record["judgement"]) is True)), (len(questions), int(judged))

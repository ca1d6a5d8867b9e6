"""EventHallusion (arXiv 2409.16597): yes-or-no questions about events, and descriptions that a judge has compared.

Three splits: entire (common events), interleave ("Mix" in tables, an unexpected event amid common ones) and misleading
(questions that suggest a wrong event). Within a split every answer is the same, so that a model which always says one
word scores 1 on some of them: report all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The split that VistaDPO's table leaves out of the descriptions.
MISLEADING = "misleading"

Record = Mapping[str, Any]


def score(predictions: dict[str, dict[str, dict]]) -> dict[str, dict[str, float]]:
    """Accuracies from the published file of predictions.

    Args:
        predictions: split -> video id -> record with "qa" (a list of {"question", "answer": "Yes." or "No.",
            "prediction"}), with "judgement" (the judge's reply to the description), or with both.

    Returns:
        split -> {"binary_accuracy", "binary_unmatched", "questions"} where its videos have "qa", and
        {"description_accuracy", "description_unmatched", "videos"} where they have "judgement". Accuracies, and the
        unmatched that are neither yes nor no and count as wrong, are shares in [0, 1]; the others are counts. Two more
        entries pool questions and videos: "all", the published script's overall, and "all_but_misleading". The overall
        of VistaDPO's table is "all" for binary and "all_but_misleading" for description. An entry leaves out a part
        that some of its splits lack.

    Raises:
        ValueError: no split, an empty one, or one in which only some videos have answers or a judgement.
    """
    if not predictions:
        raise ValueError("no predictions to score: give at least one split")
    splits = {split: _checked(split, records) for split, records in predictions.items()}
    pools = {"all": list(splits), "all_but_misleading": [split for split in splits if split != MISLEADING]}
    pooled = {
        name: [record for split in members for record in splits[split]] for name, members in pools.items() if members
    }
    return {name: _scores(records) for name, records in (splits | pooled).items()}


def parse_answer(prediction: str | None) -> str | None:
    """The answer "Yes." or "No.", by how the prediction begins in upper or lower case; None where it begins otherwise.

    This is the published rule, with what follows from it: " Yes" and "**Yes**" are neither, "Not really" is a no, and
    "Yesterday" a yes.
    """
    return {"yes": "Yes.", "no": "No.", None: None}[_beginning(prediction)]


def parse_judgement(reply: str | None) -> bool | None:
    """Whether the judge accepts a description: as `parse_answer`, but "*" (bold face) is taken out first."""
    return {"yes": True, "no": False, None: None}[_beginning(None if reply is None else reply.replace("*", ""))]


def _beginning(text: str | None) -> str | None:
    lower = (text or "").lower()
    return next((word for word in ("yes", "no") if lower.startswith(word)), None)


def _checked(split: str, records: Mapping[str, Record]) -> list[Record]:
    """The split's records, each with the same of both parts."""
    if not records:
        raise ValueError(f"split {split} has no videos; leave it out")
    for part in ("qa", "judgement"):
        lacking = [video for video, record in records.items() if part not in record]
        if 0 < len(lacking) < len(records):
            raise ValueError(f'split {split}: no "{part}" for {", ".join(lacking)}; finish these or leave them out')
    neither = [video for video, record in records.items() if "qa" not in record and "judgement" not in record]
    if neither:
        raise ValueError(f'split {split} has neither "qa" nor "judgement"; ask its questions first')
    lacking = [
        f"{video}.{number}"
        for video, record in records.items()
        for number, asked in enumerate(record.get("qa", ()))
        if "prediction" not in asked
    ]
    if lacking:
        raise ValueError(f'split {split}: no "prediction" in {", ".join(lacking)}; predict these questions first')
    return list(records.values())


def _scores(records: Sequence[Record]) -> dict[str, float]:
    """Both parts' scores; a part that some records lack is left out."""
    scores: dict[str, float] = {}
    asked = [one for record in records for one in record.get("qa", ())]
    if asked and all("qa" in record for record in records):
        answers = [parse_answer(one["prediction"]) for one in asked]
        scores |= {
            "binary_accuracy": sum(given == one["answer"] for given, one in zip(answers, asked, strict=True))
            / len(asked),
            "binary_unmatched": answers.count(None) / len(asked),
            "questions": len(asked),
        }
    if all("judgement" in record for record in records):
        verdicts = [parse_judgement(record["judgement"]) for record in records]
        scores |= {
            "description_accuracy": verdicts.count(True) / len(records),
            "description_unmatched": verdicts.count(None) / len(records),
            "videos": len(records),
        }
    return scores

"""Answers to yes-or-no questions: what counts as right, which way they lean, and how well their margin separates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.questions.video_hallucer_files import HALVES


def is_hit(answer: str, predict: str) -> bool:
    """Whether the answer stands as a word anywhere in the prediction, in upper or lower case.

    This is the published rule, with what follows from it: "Yes, no doubt." hits "no", and "not sure" does not.
    """
    return re.search(rf"\b{re.escape(answer)}\b", predict, re.IGNORECASE) is not None


def bias(pairs: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """How far the answers lean towards yes, over all single questions (HallusionBench's definitions).

    Returns:
        pct_diff: (predicted yes - true yes) / questions, in [-1, 1], ideally 0; fp_ratio: the share of "yes" among
        wrong answers, in [0, 1], ideally 0.5, None when nothing is wrong; and the counts that they are made of.
        The script published with VideoHallucer prints other quantities under these names.
    """
    asked = [pair[half] for pair in pairs for half in HALVES]
    says_yes = [is_hit("yes", one["predict"]) for one in asked]
    wrong = [not is_hit(one["answer"], one["predict"]) for one in asked]
    true_yes = sum(one["answer"].lower() == "yes" for one in asked)
    wrong_yes = sum(yes and bad for yes, bad in zip(says_yes, wrong, strict=True))
    return {
        "pct_diff": (sum(says_yes) - true_yes) / len(asked),
        "fp_ratio": wrong_yes / sum(wrong) if any(wrong) else None,
        "n": len(asked),
        "n_pred_yes": sum(says_yes),
        "n_wrong": sum(wrong),
        "n_wrong_yes": wrong_yes,
    }


def margin_auc(pairs: Sequence[Mapping[str, Any]]) -> float | None:
    """How well the yes-minus-no margin tells questions with the answer yes from the others: area under the ROC curve.

    It is the chance that a random "yes" question has a larger margin than a random "no" one, ties counting one half:
    1 separates them, 0.5 is what a constant gives. None when only one kind of answer occurs.
    """
    asked = [pair[half] for pair in pairs for half in HALVES]
    yes = np.array([one["margin"] for one in asked if one["answer"].lower() == "yes"])
    no = np.array([one["margin"] for one in asked if one["answer"].lower() != "yes"])
    if not len(yes) or not len(no):
        return None
    difference = yes[:, None] - no[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())

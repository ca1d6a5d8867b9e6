"""Answers to yes-or-no questions: which are right, their bias towards yes, and how well their margin separates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.questions.video_hallucer_files import HALVES


def is_hit(answer: str, predict: str) -> bool:
    """Whether the answer occurs as a word anywhere in the prediction, in upper or lower case.

    This is the published rule, with its consequences: "Yes, no doubt." hits "no", and "not sure" does not.
    """
    # Bounds of words: without them "no" would be in "know" and in "nothing".
    return re.search(rf"\b{re.escape(answer)}\b", predict, re.IGNORECASE) is not None


def bias(pairs: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """The answers' bias towards yes, over all single questions (HallusionBench's definitions).

    Returns:
        pct_diff: (predicted yes - true yes) / questions, in [-1, 1], ideally 0; fp_ratio: the share of "yes" among
        wrong answers, in [0, 1], ideally 0.5, None when nothing is wrong; and the counts behind them.
        The script published with VideoHallucer prints other quantities under these names.
    """
    questions = [pair[half] for pair in pairs for half in HALVES]
    says_yes = [is_hit("yes", question["predict"]) for question in questions]
    wrong = [not is_hit(question["answer"], question["predict"]) for question in questions]
    true_yes = sum(question["answer"].lower() == "yes" for question in questions)
    wrong_yes = sum(yes and is_wrong for yes, is_wrong in zip(says_yes, wrong, strict=True))
    return {
        "pct_diff": (sum(says_yes) - true_yes) / len(questions),
        "fp_ratio": wrong_yes / sum(wrong) if any(wrong) else None,
        "n": len(questions),
        "n_pred_yes": sum(says_yes),
        "n_wrong": sum(wrong),
        "n_wrong_yes": wrong_yes,
    }


def margin_auc(pairs: Sequence[Mapping[str, Any]]) -> float | None:
    """Area under the ROC curve of the yes-minus-no margin, as a classifier of questions whose answer is yes.

    It is the chance that a random "yes" question has a larger margin than a random "no" one, ties counting one half:
    1 separates them, 0.5 is what a constant gives. None when only one kind of answer occurs.
    """
    questions = [pair[half] for pair in pairs for half in HALVES]
    yes = np.array([question["margin"] for question in questions if question["answer"].lower() == "yes"])
    no = np.array([question["margin"] for question in questions if question["answer"].lower() != "yes"])
    if not len(yes) or not len(no):
        return None
    # Every "yes" question against every "no" one: a few million numbers at most, and ties need no ranks.
    difference = yes[:, None] - no[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())

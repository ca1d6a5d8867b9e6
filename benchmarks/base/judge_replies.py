"""Reading the replies of a judge that gives scores."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from lightning_modules.judges.base import spoken

#: What a reply can raise on its way through `ast.literal_eval` and the dictionary that it should be.
_UNPARSED = (
    SyntaxError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError,
)  # fmt: skip


#: Judges are asked for a score from 0 to this; the published scripts would average any number.
HIGHEST_SCORE = 5


def whole_score(score: Any) -> int:
    """A judge's score as the published scripts take it: 4.8 is 4, "4" is 4.

    Raises:
        ValueError, TypeError, OverflowError: it is no number, a fraction in quotes, or not from 0 to 5.
    """
    value = int(score)
    if not 0 <= value <= HIGHEST_SCORE:
        raise ValueError(f"the score is not from 0 to {HIGHEST_SCORE}")
    return value


def parse_score(reply: str) -> int | None:
    """The score in a judge's reply about one dimension; the reply must be the dictionary and nothing else."""
    try:
        return whole_score(ast.literal_eval(spoken(reply))["score"])
    except _UNPARSED:
        return None


def dimension_score(scores: Sequence[int | None]) -> dict[str, float]:
    """One dimension of Video-ChatGPT's bench.

    Args:
        scores: one per question, None where the reply could not be parsed.

    Returns:
        "average_score", from 0 to 5, with 0 for an unparsed reply; "questions" and "unparsed" count.

    Raises:
        ValueError: no scores.
    """
    if not scores:
        raise ValueError("no scores to average")
    average = sum(score or 0 for score in scores) / len(scores)
    return {"average_score": average, "questions": len(scores), "unparsed": scores.count(None)}

"""Parsing of a judge's replies with scores, and counts of those that cannot be read."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_modules.judges.replies import spoken

#: The errors of `dictionary_in`, and of looking up fields in what it returns.
UNPARSED = (
    SyntaxError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError,
)  # fmt: skip
#: Judges are asked for a score from 0 to this; the published scripts would average any number.
HIGHEST_SCORE = 5
#: The share of replies that cannot be read above which a reader is warned of the numbers.
MANY_UNPARSED = 0.05

#: Address of a number in the results -> how many of the replies behind it could not be read, of how many.
UnparsedCounts = Mapping[str, Sequence[int]]

_FENCED = re.compile(r"\A\s*```\w*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


def dictionary_in(text: str) -> Any:
    """The value of a Python or JSON literal, also within a code fence; a dictionary where a judge answers as asked.

    The published scripts read Python alone and without a fence: a judge that answers in JSON (null, true) or in a fence
    would score 0 on everything.

    Raises:
        any of `UNPARSED`: the text is neither.
    """
    fenced = _FENCED.match(text)
    literal = text if fenced is None else fenced[1]
    try:
        return ast.literal_eval(literal)
    except UNPARSED:
        return json.loads(literal)


def whole_score(score: Any) -> int:
    """A judge's score as the published scripts take it: 4.8 is 4, "4" is 4.

    Raises:
        ValueError, TypeError, OverflowError: it is no number, a fraction in quotes, or not from 0 to 5.
    """
    if isinstance(score, bool):
        raise TypeError("true and false are no scores")
    value = int(score)  # as the published scripts do: "4" and 4.8 are 4, and "4.8" is an error
    if not 0 <= value <= HIGHEST_SCORE:
        raise ValueError(f"the score is not from 0 to {HIGHEST_SCORE}")
    return value


def parse_score(reply: str) -> int | None:
    """The score in a judge's reply about one dimension; the reply must be the dictionary and nothing else.

    Python or JSON, with or without a code fence; None = it cannot be read.
    """
    try:
        return whole_score(dictionary_in(spoken(reply))["score"])
    except UNPARSED:
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


def unparsed_cell(counts: Sequence[int] | None) -> str:
    """A cell of the column "unparsed": "20 of 40"; a dash for a number that no judge makes."""
    return "-" if counts is None else f"{counts[0]} of {counts[1]}"


def unparsed_warning(unparsed: UnparsedCounts) -> str | None:
    """One sentence where more than 5% of the replies behind a number could not be read; None where not."""
    shares = {address: unread / total for address, (unread, total) in unparsed.items() if total}
    worst = max(shares, key=shares.__getitem__, default="")
    if shares.get(worst, 0.0) <= MANY_UNPARSED:
        return None
    unread, total = unparsed[worst]
    return (
        f"Warning: {unread} of {total} replies of the judge ({unread / total:.0%}) behind {worst} could not be read: "
        "the number says little; details.json has them under unparsed_replies"
    )

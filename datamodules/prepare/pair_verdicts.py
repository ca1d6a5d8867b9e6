"""Which of two videos is better, in the spellings of public data sets: words, scores and shares of votes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from datamodules.prepare.conversations import UnreadableRowError, shown
from datamodules.prepare.rows import finite

#: +1 = the first video is better, -1 = the second, 0 = a tie; None = the row says nothing.
Verdict = Literal[1, 0, -1] | None
#: A word in small letters -> what it means.
Words = Mapping[str, Verdict]

LETTERS: Words = {"a": 1, "b": -1, "same": 0, "invalid": None}
VOTES: Words = {"leftvote": 1, "rightvote": -1, "tievote": 0, "bothbad_vote": 0}
VIDEOS: Words = {"video1": 1, "video2": -1, "tie": 0}
BETTER: Words = {"video 1 better": 1, "video 2 better": -1, "same": 0}
SIDES: Words = {"first": 1, "second": -1, "left": 1, "right": -1, "equal": 0, "draw": 0}
#: Every word that is known; no two data sets mean different things by one.
WORDS: Words = {**LETTERS, **VOTES, **VIDEOS, **BETTER, **SIDES}
#: Numbers with a meaning of their own, by the set in which they come: how far the first video is preferred, our own
#: labels, and which video is better.
_NUMBERS: tuple[Mapping[float, Verdict], ...] = (
    {0.0: -1, 0.5: 0, 1.0: 1},
    {-1.0: -1, 0.0: 0, 1.0: 1},
    {1.0: 1, 2.0: -1},
)
#: A number that is in one of these sets alone says which is meant.
_TELLING = (0.5, -1.0, 2.0)


def word_verdict(field: str, value: Any, words: Words) -> Verdict:
    """What a word means.

    Raises:
        UnreadableRowError: it is none of them.
    """
    word = str(value).strip().lower()
    if word not in words:
        raise UnreadableRowError(field, f"{shown(value)} is none of {', '.join(words)}")
    return words[word]


def number_words(values: Iterable[Any]) -> Words:
    """What the numbers of a column mean, as words; empty where it holds none.

    Raises:
        ValueError: they may mean several things.
    """
    numbers = {number for value in values if (number := _number(value)) is not None}
    if not numbers:
        return {}
    fitting = [meaning for meaning in _NUMBERS if numbers <= meaning.keys()]
    # Numbers such as 0 and 1 fit several meanings; only -1, 0.5 or 2 among them tells which is meant.
    telling = [meaning for meaning in fitting if any(number in numbers and number in meaning for number in _TELLING)]
    if len(telling) != 1:
        shown_numbers = ", ".join(f"{number:g}" for number in sorted(numbers))
        raise ValueError(
            f"its labels {shown_numbers} may mean several things; say what they do, as "
            """--labels '{"1": "first", "0": "second", "0.5": "tie"}'"""
        )
    return {spelling: verdict for number, verdict in telling[0].items() for spelling in (f"{number:g}", str(number))}


def given_words(labels: Mapping[str, str]) -> Words:
    """What the user says that labels mean: first, second, tie, or drop.

    Raises:
        ValueError: a meaning is none of these.
    """
    meanings: Words = {"first": 1, "second": -1, "tie": 0, "drop": None}
    if unknown := sorted(set(labels.values()) - set(meanings)):
        raise ValueError(f"labels: {', '.join(unknown)} is none of first, second, tie and drop")
    return {word.strip().lower(): meanings[meaning] for word, meaning in labels.items()}


def score_verdict(first: float, second: float, margin: float) -> Verdict:
    """The video with the higher score; scores that are less than `margin` apart, or equal, are a tie."""
    gap = first - second
    if not gap or abs(gap) < margin:
        return 0
    return 1 if gap > 0 else -1


def vote_verdict(first: float, second: float, share: float) -> Verdict:
    """The video that has more than `share` of the votes; neither = a tie."""
    total = first + second
    if total <= 0:
        return None
    # More than the share: at one half each it is a tie.
    if first / total > max(share, 0.5):
        return 1
    return -1 if second / total > max(share, 0.5) else 0


def number_of(field: str, value: Any) -> float:
    """A number that may be written as text.

    Raises:
        UnreadableRowError: it is none.
    """
    number = _number(value)
    if number is None:
        raise UnreadableRowError(field, f"is not a number but {shown(value)}")
    return number


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return finite(value)

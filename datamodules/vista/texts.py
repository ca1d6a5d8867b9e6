"""Texts without what is not seen of them, for comparison."""

from __future__ import annotations

import unicodedata


def trimmed(text: str) -> str:
    """The text without white space and characters without a width at its start and its end."""
    first, last = 0, len(text)
    while first < last and _unseen(text[first]):
        first += 1
    while last > first and _unseen(text[last - 1]):
        last -= 1
    return text[first:last]


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen: it is empty, or all white space and characters without a width."""
    return not trimmed(text)


def _unseen(letter: str) -> bool:
    # Format characters are the zero-width space and joiners, byte-order and direction marks, the soft hyphen.
    return letter.isspace() or unicodedata.category(letter) in ("Cf", "Cc")

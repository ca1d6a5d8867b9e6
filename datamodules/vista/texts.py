"""When two texts are one, and when a text is none."""

from __future__ import annotations

import unicodedata


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen: it is empty, or all white space and characters without a width."""
    # Cf are the format characters: zero-width space and joiner, byte-order and direction marks, soft hyphen.
    return all(letter.isspace() or unicodedata.category(letter) in ("Cf", "Cc") for letter in text)

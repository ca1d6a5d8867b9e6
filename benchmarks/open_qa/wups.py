"""WUPS (Malinowski and Fritz; NExT-QA's form): how near two short answers are in WordNet. An extra: needs nltk.

The pure rules are those of NExT-OE's scorer. Which words are compared is our own choice, that of `protocol.normalized`
with singular nouns, where the published scripts lemmatise with pywsd and leave out stop words: numbers are near the
published ones, not the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from math import prod

#: Similarity of two different words, from 0 to 1; 0 where one of them is unknown.
Similarity = Callable[[str, str], float]

#: How to get what is needed.
MISSING = "WUPS needs nltk and its WordNet: pip install nltk && python -m nltk.downloader wordnet"


def word_similarity(first: str, second: str, threshold: float, similarity: Similarity) -> float:
    """Similarity of two words: 1 for equal ones; below `threshold` a tenth of itself."""
    if first == second:
        return 1.0
    found = similarity(first, second)
    return found if found >= threshold else 0.1 * found


def one_way(first: Sequence[str], second: Sequence[str], threshold: float, similarity: Similarity) -> float:
    """The product, over the first's words, of each one's best match; words without any match are left out."""
    best = [max((word_similarity(a, b, threshold, similarity) for b in second), default=0.0) for a in first]
    matched = [one for one in best if one > 0]
    return prod(matched) if matched else 0.0


def wups(prediction: Sequence[str], truth: Sequence[str], threshold: float, similarity: Similarity) -> float:
    """WUPS@threshold of one answer, in [0, 1].

    Args:
        prediction: words of what was said.
        truth: words of the right answer.
        threshold: 0 for the headline number, 0.9 for the strict one.
        similarity: of two different words.
    """
    return min(
        one_way(prediction, truth, threshold, similarity),
        one_way(truth, prediction, threshold, similarity),
    )


def wordnet_similarity() -> tuple[Similarity, Callable[[str], str]]:
    """Wu-Palmer similarity of two words' first meanings, and the function that makes nouns singular.

    Raises:
        ImportError: nltk is not installed.
        LookupError: its WordNet was not downloaded.
    """
    wordnet = import_module("nltk.corpus").wordnet
    wordnet.ensure_loaded()

    @cache
    def similarity(first: str, second: str) -> float:
        meanings = [wordnet.synsets(word)[:1] for word in (first, second)]
        if not all(meanings):
            return 0.0
        return float(meanings[0][0].wup_similarity(meanings[1][0]) or 0.0)

    @cache
    def singular(word: str) -> str:
        return str(wordnet.morphy(word, wordnet.NOUN) or word)

    return similarity, singular

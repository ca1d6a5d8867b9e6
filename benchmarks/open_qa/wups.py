"""WUPS (Malinowski and Fritz; NExT-QA's form): similarity of two short answers in WordNet. Optional: needs nltk.

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

#: The message where nltk or WordNet is missing.
MISSING = "WUPS needs nltk and its WordNet: pip install nltk && python -m nltk.downloader wordnet"


def word_similarity(first: str, second: str, threshold: float, similarity: Similarity) -> float:
    """Similarity of two words: 1 for equal ones; below `threshold` a tenth of itself."""
    if first == second:
        return 1.0
    value = similarity(first, second)
    return value if value >= threshold else 0.1 * value


def one_way(first: Sequence[str], second: Sequence[str], threshold: float, similarity: Similarity) -> float:
    """The product of the best matches of the first answer's words; words without any match are left out."""
    best = [max((word_similarity(a, b, threshold, similarity) for b in second), default=0.0) for a in first]
    matched = [value for value in best if value > 0]
    return prod(matched) if matched else 0.0  # the product of nothing would be 1


def wups(prediction: Sequence[str], truth: Sequence[str], threshold: float, similarity: Similarity) -> float:
    """WUPS@threshold of one answer, in [0, 1].

    Args:
        prediction: words of the predicted answer.
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
    wordnet.ensure_loaded()  # nltk loads corpora lazily; here a missing one is noticed

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

"""WUPS: the published rules on a given similarity, and WordNet's as far as it is called."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from benchmarks.open_qa.metric import score, wups_fault
from benchmarks.open_qa.wups import one_way, word_similarity, wordnet_similarity, wups

KNOWN = {("cat", "dog"): 0.8, ("cat", "tree"): 0.3}


def similarity(first: str, second: str) -> float:
    return KNOWN.get((first, second), KNOWN.get((second, first), 0.0))


def test_words_below_the_threshold_count_a_tenth() -> None:
    assert word_similarity("cat", "cat", 0.9, similarity) == 1
    assert word_similarity("cat", "dog", 0.0, similarity) == 0.8
    assert word_similarity("cat", "dog", 0.9, similarity) == pytest.approx(0.08)


def test_words_without_a_match_are_left_out_of_the_product() -> None:
    assert one_way(["cat", "xyz"], ["dog", "tree"], 0.0, similarity) == 0.8
    assert one_way(["cat", "tree"], ["dog", "cat"], 0.0, similarity) == pytest.approx(0.3)
    assert one_way(["xyz"], ["dog"], 0.0, similarity) == 0
    assert one_way([], ["dog"], 0.0, similarity) == 0


def test_the_worse_direction_counts() -> None:
    assert wups(["cat"], ["cat", "tree"], 0.0, similarity) == pytest.approx(0.3)
    assert wups(["cat"], ["cat"], 0.9, similarity) == 1


class Meaning:
    """A meaning of a word that is as near to any other as its name is long."""

    def __init__(self, word: str) -> None:
        self.word = word

    def wup_similarity(self, other: Meaning) -> float | None:
        return None if other.word == "stone" else 1 / len(self.word)


def fake_nltk(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    wordnet = SimpleNamespace(
        NOUN="n",
        ensure_loaded=lambda: None,
        synsets=lambda word: [] if word == "xyz" else [Meaning(word), Meaning("other")],
        morphy=lambda word, kind: word.removesuffix("s") if word.endswith("s") else None,
    )
    corpus: Any = ModuleType("nltk.corpus")
    corpus.wordnet = SimpleNamespace(**(vars(wordnet) | more))
    monkeypatch.setitem(sys.modules, "nltk", ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)


RECORDS = [
    {"question_id": "0", "predict": "two dogs", "answer": "2 dog"},
    {"question_id": "1", "predict": "cats", "answer": "tree"},
]


def test_wordnets_first_meanings_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nltk(monkeypatch)
    near, singular = wordnet_similarity()
    assert near("cat", "tree") == 1 / 3
    assert near("cat", "xyz") == near("cat", "stone") == 0
    assert (singular("cats"), singular("grass"), singular("cat")) == ("cat", "gras", "cat")
    # Equal once numbers are digits and nouns are singular; else the worse of 1/3 and 1/4.
    wups = score(RECORDS)["wups"]
    assert wups["wups_0"] == pytest.approx((1 + 1 / 4) / 2)
    assert wups["wups_90"] == pytest.approx((1 + 1 / 40) / 2)


def test_without_nltk_or_wordnet_it_is_absent_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise LookupError("wordnet")

    fake_nltk(monkeypatch, ensure_loaded=lost)
    assert "wups" not in score(RECORDS)
    assert "nltk.downloader wordnet" in str(wups_fault())
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    assert "wups" not in score(RECORDS)
    assert "pip install nltk" in str(wups_fault())

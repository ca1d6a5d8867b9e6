"""VideoScore: the overall, and agreement with a person's choice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ratings.videoscore import ASPECTS, agrees, overall
from tests.support.goldens import golden

GOLDEN = golden("bench_videoscore")
ROWS = [(row["left"], row["right"], row["left_pref"], row["right_pref"]) for row in GOLDEN["rows"]]


def test_agreement_is_the_published_one() -> None:
    assert [agrees(*row) for row in ROWS] == [row["correct"] for row in GOLDEN["rows"]]


def test_the_overall_is_the_mean_of_the_published_aspects() -> None:
    assert list(ASPECTS) == GOLDEN["aspects"]
    assert overall([1.0, 2.0, 3.0, 4.0, 2.5]) == 2.5


SCORES = st.floats(1, 4)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(SCORES, SCORES, st.sampled_from([(1, 0), (0, 1), (0.5, 0.5)]))
def test_left_and_right_are_alike(left: float, right: float, choice: tuple[float, float]) -> None:
    assert agrees(left, right, *choice) == agrees(right, left, *choice[::-1])


def test_what_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="4 scores for the 5 aspects"):
        overall([1.0] * 4)

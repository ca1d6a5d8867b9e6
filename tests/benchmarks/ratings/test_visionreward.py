"""VisionReward's score, comparison and dimensions, and DenseDPO's columns."""

from __future__ import annotations

import pytest

from benchmarks.ratings.visionreward import (
    DENSE_DPO_GROUPS,
    DIMENSIONS,
    SELECTED,
    WEIGHTS,
    dense_dpo_columns,
    dimensions,
    score,
)
from tests.support.goldens import golden

GOLDEN = golden("bench_visionreward")


def test_questions_and_weights_are_the_published_ones() -> None:
    assert list(WEIGHTS) == GOLDEN["weights"]
    assert list(SELECTED) == GOLDEN["selected_question_index_in_64"]
    assert {name: list(numbers) for name, numbers in DIMENSIONS.items()} == GOLDEN["dims_of_64_questions"]
    assert sorted(number for numbers in DIMENSIONS.values() for number in numbers) == list(range(1, 65))


def test_scores_are_the_published_ones() -> None:
    assert {name: score(answers) for name, answers in GOLDEN["answers"].items()} == GOLDEN["scores"]


def test_comparisons_are_the_published_ones() -> None:
    for names, wins in GOLDEN["compare"].items():
        first, second = (GOLDEN["answers"][name] for name in names.split(">"))
        assert (score(first) > score(second)) is wins  # the published rule gives a tie to the second


def test_own_weights_take_their_own_questions() -> None:
    assert score(["yes", "no"], [3.0, 1.0]) == 1
    assert score(["no", "yes"], [3.0, 1.0]) == -1


def test_dimensions_are_means_of_plus_and_minus_one() -> None:
    answers = ["no"] * 64
    for question in (1, 2, 3, 5, *range(11, 21), 38, 28):
        answers[question - 1] = "yes"
    answers[60] = "Yes"
    expected = dict.fromkeys(DIMENSIONS, -1.0)
    expected |= {"Alignment": 0.5, "Composition": 0.0, "Quality": 6 / 14, "Fidelity": -7 / 9, "Dynamic": -6 / 8}
    assert dimensions(answers) == expected
    # Over questions, not over dimensions: 12 of the 25 say yes.
    assert dense_dpo_columns(answers) == {"TA": 0.5, "VQ": -1 / 25, "TC": -1.0, "DD": -0.75}


def test_all_yes_and_all_no_are_the_ends() -> None:
    for answer, end in (("yes", 1.0), ("no", -1.0)):
        assert dimensions([answer] * 64) == dict.fromkeys(DIMENSIONS, end)
        assert dense_dpo_columns([answer] * 64) == dict.fromkeys(DENSE_DPO_GROUPS, end)


def test_a_wrong_number_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="28 answers to 29 questions"):
        score(["yes"] * 28)
    with pytest.raises(ValueError, match="30 answers to 29 questions"):
        score(["yes"] * 30)
    for function in (dimensions, dense_dpo_columns):
        with pytest.raises(ValueError, match="29 answers to 64 questions"):
            function(["yes"] * 29)

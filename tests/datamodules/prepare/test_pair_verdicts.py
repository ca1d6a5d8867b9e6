"""What words, numbers, scores and votes say of two videos."""

from __future__ import annotations

import pytest

from datamodules.prepare.pair_verdicts import WORDS, number_words, score_verdict, vote_verdict, word_verdict


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["A", "B", "same"], [1, -1, 0]),
        (["leftvote", "rightvote", "tievote", "bothbad_vote"], [1, -1, 0, 0]),
        (["video1", "video2", "tie"], [1, -1, 0]),
        (["Video 1 better", "Video 2 better", "Same"], [1, -1, 0]),
        (["1", "0", "0.5"], [1, -1, 0]),
        (["1", "-1", "0"], [1, -1, 0]),
        (["1", "2"], [1, -1]),
        (["first", "second", "tie"], [1, -1, 0]),
        (["invalid"], [None]),
    ],
)
def test_the_spellings_of_a_verdict(values: list[str], expected: list[int | None]) -> None:
    words = {**WORDS, **number_words(values)}
    assert [word_verdict("label", value, words) for value in values] == expected


def test_scores_have_a_margin_and_votes_a_share() -> None:
    assert [score_verdict(4, 3, margin) for margin in (0, 1, 1.5)] == [1, 1, 0]
    assert [score_verdict(3, 4, 0), score_verdict(3, 3, 0)] == [-1, 0]
    assert [vote_verdict(6, 4, share) for share in (0.5, 0.59, 0.6)] == [1, 1, 0]
    assert [vote_verdict(5, 5, 0.5), vote_verdict(2, 8, 0.7), vote_verdict(0, 0, 0.5)] == [0, -1, None]

"""EventHallusion: parsing by beginnings, and both overalls."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.event_hallusion.scores import parse_answer, parse_judgement, score


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("Yes.", "Yes."), ("yes", "Yes."), ("YES, it is", "Yes."), ("Yesterday", "Yes."), ("No.", "No."), ("no", "No."),
        ("Not really", "No."), ("None", "No."), (" Yes", None), ("**Yes**", None), ("The answer is yes", None),
        ("", None), (None, None),
    ],
)  # fmt: skip
def test_answers_are_read_by_their_beginning(prediction: str | None, answer: str | None) -> None:
    assert parse_answer(prediction) == answer


@pytest.mark.parametrize(
    ("reply", "accepted"),
    [
        ("Yes", True), ("**Yes**, it does", True), ("*no*", False), ("No.", False), (" yes", None), ("Perhaps", None),
        ("<think>No?</think>\n\nYes.", True), ("Yes? No.</think>No.", False), (None, None),
    ],
)  # fmt: skip
def test_judgements_are_read_without_thoughts_and_bold_face(reply: str | None, accepted: bool | None) -> None:
    assert parse_judgement(reply) is accepted


def record(answers: list[tuple[str, str | None]], judgement: str | None = "No.") -> dict[str, Any]:
    asked = [{"question": "?", "answer": answer, "prediction": prediction} for answer, prediction in answers]
    return {"id": "x", "desc": "A dog.", "qa": asked, "judgement": judgement}


def without(part: str, split: dict[str, dict]) -> dict[str, dict]:
    return {video: {name: value for name, value in record.items() if name != part} for video, record in split.items()}


PREDICTIONS = {
    "entire": {
        "e1": record([("No.", "No, it is not."), ("No.", "Yes.")], "**Yes**"),
        "e2": record([("No.", "no")], "no"),
        "e3": record([("No.", "It is not.")], "Hard to say"),
    },
    "interleave": {"i1": record([("Yes.", "Yes")], "No"), "i2": record([("Yes.", None)], "Yes")},
    "misleading": {"m1": record([("No.", "Not at all"), ("No.", "nothing")], "yes")},
}


def test_splits_and_both_overalls_pool_questions_and_videos() -> None:
    scores = score(PREDICTIONS)
    assert scores["entire"] == {
        "binary_accuracy": 2 / 4, "binary_unmatched": 1 / 4, "questions": 4,
        "description_accuracy": 1 / 3, "description_unmatched": 1 / 3, "videos": 3,
    }  # fmt: skip
    assert scores["interleave"]["binary_accuracy"] == 1 / 2
    assert scores["misleading"]["binary_accuracy"] == 1
    assert scores["all"] == {
        "binary_accuracy": 5 / 8, "binary_unmatched": 2 / 8, "questions": 8,
        "description_accuracy": 3 / 6, "description_unmatched": 1 / 6, "videos": 6,
    }  # fmt: skip
    assert scores["all_but_misleading"] == {
        "binary_accuracy": 3 / 6, "binary_unmatched": 2 / 6, "questions": 6,
        "description_accuracy": 2 / 5, "description_unmatched": 1 / 5, "videos": 5,
    }  # fmt: skip


def test_the_papers_row_comes_out_of_its_counts() -> None:
    """VistaDPO's row of Video-LLaVA: 35, 111 and 42 right answers, 9 and 14 accepted descriptions."""

    def split(videos: int, questions: int, right: int, accepted: int) -> dict[str, dict]:
        records = {
            f"v{n}": record([("No.", "No." if n < right else "Yes.")], "Yes" if n < accepted else "No")
            for n in range(videos)
        }
        records["v0"]["qa"] += record([("No.", "Yes.")] * (questions - videos))["qa"]
        return records

    scores = score(
        {
            "entire": split(109, 114, 35, 9),
            "interleave": split(193, 193, 111, 14),
            "misleading": split(95, 102, 42, 44),
        }
    )
    assert round(100 * scores["entire"]["binary_accuracy"], 1) == 30.7
    assert round(100 * scores["entire"]["description_accuracy"], 1) == 8.3
    assert round(100 * scores["interleave"]["binary_accuracy"], 1) == 57.5
    assert round(100 * scores["interleave"]["description_accuracy"], 1) == 7.3
    assert round(100 * scores["misleading"]["binary_accuracy"], 1) == 41.2
    assert scores["all"]["binary_accuracy"] == 188 / 409, "45.97, of which the paper prints 45.9"
    assert round(100 * scores["all_but_misleading"]["description_accuracy"], 1) == 7.6
    assert round(100 * scores["all"]["description_accuracy"], 1) == 16.9


def test_a_part_that_was_not_asked_is_absent_not_zero() -> None:
    descriptions = score({split: without("qa", records) for split, records in PREDICTIONS.items()})
    assert set(descriptions["all"]) == {"description_accuracy", "description_unmatched", "videos"}
    as_in_the_paper = score({**PREDICTIONS, "misleading": without("judgement", PREDICTIONS["misleading"])})
    assert "description_accuracy" not in as_in_the_paper["misleading"]
    assert "description_accuracy" not in as_in_the_paper["all"]
    assert as_in_the_paper["all"]["binary_accuracy"] == 5 / 8
    assert as_in_the_paper["all_but_misleading"]["description_accuracy"] == 2 / 5
    assert set(score({"misleading": PREDICTIONS["misleading"]})) == {"misleading", "all"}


def test_scoring_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="at least one split"):
        score({})
    with pytest.raises(ValueError, match="entire has no videos"):
        score({"entire": {}})
    half = {**PREDICTIONS["entire"], **without("judgement", {"e4": record([("No.", "No.")])})}
    with pytest.raises(ValueError, match=r'entire: no "judgement" for e4'):
        score({"entire": half})
    with pytest.raises(ValueError, match=r'neither "qa" nor "judgement"'):
        score({"entire": {"e1": {"desc": "A dog."}}})
    lacking = record([("No.", "No."), ("No.", "No.")])
    del lacking["qa"][1]["prediction"]
    with pytest.raises(ValueError, match=r'entire: no "prediction" in e1\.1'):
        score({"entire": {"e1": lacking}})

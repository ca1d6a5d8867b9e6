"""Replies of a judge that cannot be read: asked again, counted, warned of, and too many of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.judges.base import JudgeQuestion, JudgeStoppedError
from tests.support.flow_shards import LABELS
from tests.support.judged_pairs import BrightnessJudge, read_labels, write_judged_pairs
from tests.support.segment_judge_runs import label


def test_a_reply_that_cannot_be_read_is_asked_again_with_a_reminder(pairs: str, tmp_path: Path) -> None:
    def spoil(question: JudgeQuestion, number: int) -> str | None:
        return None if question.attempt else "Well, well."

    judge = BrightnessJudge(spoil)
    module = label(pairs, tmp_path / "labels", judge)
    assert [row.labels for row in read_labels(tmp_path / "labels.index.json").values()] == list(LABELS[:5])
    assert len(judge.asked) == 60
    again = [question for question in judge.asked if question.attempt]
    assert {question.text.endswith('{"verdict": "first"}, or second, or tie.') for question in again} == {True}
    assert module.tally.unparsed == 0


def test_what_stays_unreadable_is_a_tie_that_is_counted(
    pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(question: JudgeQuestion, number: int) -> str | None:
        return (
            "No idea." if (question.key, question.segment) == ("p00", 0) and question.shown_first == "first" else None
        )

    judge = BrightnessJudge(spoil)
    label(pairs, tmp_path / "labels", judge, attempts=3)
    rows = read_labels(tmp_path / "labels.index.json")
    assert rows["p00"].labels == (0, *LABELS[0][1:])
    assert (rows["p00"].unparsed, rows["p00"].verdicts[0]) == (1, ("tie", "second"))  # type: ignore[index]
    assert sum(row.unparsed for row in rows.values()) == 1
    assert [question.attempt for question in judge.asked if question.key == "p00" and question.segment == 0] == [
        0,
        0,
        1,
        2,
    ]
    assert "1 of 30 replies could not be read and count as ties" in capsys.readouterr().out


@pytest.mark.parametrize(("every", "warned"), [(2, True), (30, False)])
def test_a_judge_that_is_seldom_understood_is_warned_of(
    pairs: str, tmp_path: Path, every: int, warned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter("always")
    judge = BrightnessJudge(lambda question, number: None if number % every else "No idea.")
    label(pairs, tmp_path / "labels", judge, attempts=1)
    messages = [str(warning.message) for warning in recwarn if "could not be read" in str(warning.message)]
    assert [message.startswith("50% of the judge's replies could not be read") for message in messages] == [
        True
    ] * warned


def unreadable_from(start: int) -> Any:
    return lambda question, number: f"Reply {number}: both have their charm." if number > start else None


def test_a_judge_that_is_never_understood_is_stopped_after_twelve_replies(tmp_path: Path) -> None:
    pairs = write_judged_pairs(tmp_path, count=8)  # of three segments: 24
    judge = BrightnessJudge(unreadable_from(0))
    with pytest.raises(JudgeStoppedError, match="12 of the judge's replies in a row could not be read") as caught:
        label(pairs, tmp_path / "labels", judge, {"batch_size": 8}, attempts=1)
    assert len(judge.asked) == 12
    message = str(caught.value)
    assert "\n  'p00', segment 0, first video shown first: 'Reply 1: both have their charm.'\n" in message
    assert [f"Reply {number}:" in message for number in range(1, 5)] == [True, True, True, False]
    assert "model.instructions" in message
    assert not (tmp_path / "labels.index.json").exists()


def test_attempts_count_as_replies(pairs: str, tmp_path: Path) -> None:
    judge = BrightnessJudge(unreadable_from(0))
    with pytest.raises(JudgeStoppedError, match="12 of the judge's replies in a row"):
        label(pairs, tmp_path / "labels", judge, {"batch_size": 5}, attempts=2)
    assert [question.attempt for question in judge.asked] == [0] * 6 + [1] * 6


def test_later_it_takes_fifty(tmp_path: Path) -> None:
    pairs = write_judged_pairs(tmp_path, count=16)
    judge = BrightnessJudge(unreadable_from(8))
    with pytest.raises(JudgeStoppedError, match=r"50 of the judge's replies in a row[^$]*The labels of the 9 pairs"):
        label(pairs, tmp_path / "labels", judge, attempts=1)
    assert len(judge.asked) == 58


def test_forty_nine_unread_replies_and_one_that_is_read_go_on(tmp_path: Path) -> None:
    pairs = write_judged_pairs(tmp_path, count=12)  # 72 questions

    def spoil(question: JudgeQuestion, number: int) -> str | None:
        return "No idea." if 8 < number < 58 else None

    module = label(pairs, tmp_path / "labels", BrightnessJudge(spoil), attempts=1)
    assert (module.unread.unread, module.unread.replies) == (49, 72)


def test_the_share_of_unread_replies_is_shown_while_it_runs(
    pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_modules.predict.unread_replies.SECONDS_BETWEEN_LINES", 0.0)
    judge = BrightnessJudge(lambda question, number: "No idea." if number % 3 == 0 else None)
    label(pairs, tmp_path / "labels", judge, attempts=1)
    lines = [line for line in capsys.readouterr().out.splitlines() if "replies so far" in line]
    # Five pairs of six questions.
    assert lines == [
        f"{2 * pair} of the judge's {6 * pair} replies so far could not be read (33.3%)" for pair in range(1, 6)
    ]

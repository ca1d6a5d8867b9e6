"""A benchmark's judge whose replies cannot be read is asked no more: 12 from the start, 50 later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.base.watched_judge import WatchedJudge
from benchmarks.open_qa.module import ActivityNetQa
from benchmarks.ratings.videos import VisionReward
from datamodules.questions.checklist import ChecklistQuestions
from datamodules.questions.open_qa import OpenQuestions
from lightning_modules.judges.base import JudgeQuestion, JudgeStoppedError
from tests.support.paths import DATA
from tests.support.qa_world import Scripted, ScriptedJudge, run_test, write_json, write_video


def numbered(count: int) -> list[JudgeQuestion]:
    return [JudgeQuestion(str(number), key=f"q{number}") for number in range(count)]


def watched(readable: Callable[[int], bool]) -> tuple[WatchedJudge, ScriptedJudge]:
    """A judge that can be read at some numbers of questions."""
    judge = ScriptedJudge(lambda question: "yes" if readable(int(question.text)) else f"Prose {question.text}.")
    return WatchedJudge(judge, lambda reply: reply == "yes"), judge


def test_twelve_unread_replies_from_the_start_end_it_with_three_examples() -> None:
    judge, asked = watched(lambda number: False)
    with pytest.raises(JudgeStoppedError) as caught:
        judge.ask(numbered(24))
    assert len(asked.asked) == 12, "what is asked in one go is also paid in one go"
    message = str(caught.value)
    assert message.startswith("12 of the judge's replies in a row could not be read, and scores of them would say")
    assert "\n  'q0': 'Prose 0.'\n  'q1': 'Prose 1.'\n  'q2': 'Prose 2.'\nChange the judge" in message
    assert "Prose 3." not in message


def test_they_are_counted_over_all_batches() -> None:
    judge, _ = watched(lambda number: False)
    judge.ask(numbered(11))
    with pytest.raises(JudgeStoppedError, match="12 of the judge's replies in a row"):
        judge.ask(numbered(1))


def test_later_it_takes_fifty() -> None:
    judge, asked = watched(lambda number: number < 3)
    with pytest.raises(JudgeStoppedError, match="50 of the judge's replies in a row"):
        judge.ask(numbered(100))
    assert len(asked.asked) == 53


def test_a_judge_that_is_seldom_understood_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, asked = watched(lambda number: number % 12 == 11)
    replies = judge.ask(numbered(36))
    assert [replies[number] for number in (0, 11, 35)] == ["Prose 0.", "yes", "yes"]
    assert [question.text for question in asked.asked] == [str(number) for number in range(36)]
    assert capsys.readouterr().out == "33 of the judge's 36 replies so far could not be read (91.7%)\n"
    judge.ask(numbered(12))
    assert capsys.readouterr().out == "", "not oftener than every half a minute"
    monkeypatch.setattr("lightning_modules.predict.unread_replies.SECONDS_BETWEEN_LINES", -1e9)
    judge.unread._next_line = 0.0
    judge.ask(numbered(12))
    assert capsys.readouterr().out == "55 of the judge's 60 replies so far could not be read (91.7%)\n"


def test_an_answer_judge_that_is_never_understood_ends_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"v_lamp_{number}" for number in range(20)]
    asked = [{"video_name": "lamp", "question": f"is it on, {key}", "question_id": key} for key in keys]
    write_json(tmp_path / "test_q.json", asked)
    write_json(tmp_path / "test_a.json", [{"answer": "yes", "type": 3, "question_id": key} for key in keys])
    write_video(tmp_path / "videos" / "v_lamp.mp4", 200)
    data = OpenQuestions(
        *("activitynet_qa", str(tmp_path / "test_q.json")),
        answers=str(tmp_path / "test_a.json"),
        videos=str(tmp_path / "videos"),
        num_frames=2,
        batch_size=5,
    )
    judge = ScriptedJudge(lambda question: "The answer is good.")
    module = ActivityNetQa(Scripted(lambda *_: "yes"), str(tmp_path / "out"), judge=judge)
    with pytest.raises(JudgeStoppedError, match=r"(?s)12 of the judge's replies.*'The answer is good\.'"):
        run_test(module, data)
    assert len(judge.asked) == 12
    assert "5 of the judge's 5 replies so far could not be read (100.0%)" in capsys.readouterr().out
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_rating_judge_that_is_never_understood_ends_the_test(tmp_path: Path) -> None:
    """A reply that is not exactly a yes counts as no: "Yes, clearly." everywhere would be the lowest score."""
    write_video(tmp_path / "videos" / "a lamp-0.mp4", 220, frames=9)
    questions = DATA / "visionreward" / "VisionReward_video_qa_select.txt"
    data = ChecklistQuestions(str(questions), videos=str(tmp_path / "videos"))
    judge = ScriptedJudge(lambda question: "Yes, clearly.")
    with pytest.raises(JudgeStoppedError, match=r"(?s)12 of the judge's replies.*'Yes, clearly\.'"):
        run_test(VisionReward(judge, str(tmp_path / "out")), data)
    assert len(judge.asked) == 12
    judge = ScriptedJudge(lambda question: "Yes, clearly.")
    results = run_test(VisionReward(judge, str(tmp_path / "read"), reading="first_word"), data)
    assert results["unparsed"] == 0

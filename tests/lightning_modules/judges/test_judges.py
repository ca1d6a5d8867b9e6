"""Questions, and replies that were recorded."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from lightning_modules.judges.base import PICTURE, JudgeQuestion, Workload
from lightning_modules.judges.recorded import RecordedJudge, ReplyLog

RED, BLUE = torch.zeros(3, 4, 4, dtype=torch.uint8), torch.ones(3, 4, 4, dtype=torch.uint8)


def test_pictures_stand_where_the_text_has_places_for_them() -> None:
    question = JudgeQuestion(f"One:\n{PICTURE}Two:\n{PICTURE}\nWhich?", [RED, BLUE], "k")
    assert question.content() == ["One:\n", RED, "Two:\n", BLUE, "\nWhich?"]


def test_without_places_pictures_come_first_and_without_pictures_the_text_is_left_alone() -> None:
    assert JudgeQuestion("Which?", [RED, BLUE]).content() == [RED, BLUE, "Which?"]
    assert JudgeQuestion(f"What does {PICTURE} mean?").content() == [f"What does {PICTURE} mean?"]


def test_a_wrong_number_of_places_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"question 'k' has 1 places <picture> for 2 pictures"):
        JudgeQuestion(f"{PICTURE}?", [RED, BLUE], "k").content()


@pytest.mark.parametrize(
    ("question", "place"),
    [
        (JudgeQuestion("?", key="a"), "'a'"),
        (JudgeQuestion("?", key="a", segment=2, shown_first="second"), "'a', segment 2, second video shown first"),
        (JudgeQuestion("?", key="a", shown_first="first"), "'a', the whole video, first video shown first"),
    ],
)
def test_a_question_tells_its_place(question: JudgeQuestion, place: str) -> None:
    assert question.place == place


def test_recorded_replies_are_repeated_by_place_and_attempt(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "replies.jsonl"
    asked = [
        JudgeQuestion("?", key="a", segment=0, shown_first="first"),
        JudgeQuestion("?", key="a", segment=0, shown_first="second"),
        JudgeQuestion("?", key="a", segment=0, shown_first="second", attempt=1),
        JudgeQuestion("?", key="b"),
    ]
    log = ReplyLog(path)
    log.write(asked[:3], ["one", "hm\nhm", "two"])
    log.write(asked[3:], ["old"])
    log.write(asked[3:], ["new"])
    judge = RecordedJudge(str(path))
    assert judge.name == "recorded:replies.jsonl"
    assert judge.ask(list(reversed(asked))) == ["new", "two", "hm\nhm", "one"]
    assert (judge.estimate(Workload(4)), judge.summary()) == ("", "")


def test_a_log_that_goes_on_after_a_kill_repeats_no_line(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    asked = [JudgeQuestion("?", key=key) for key in "abc"]
    ReplyLog(path).write(asked[:2], ["one", "two"])
    again = ReplyLog(path)
    again.check()
    again.write(asked, ["one", "changed", "three"])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["key"], line["reply"]) for line in lines] == [
        *(("a", "one"), ("b", "two")),
        *(("b", "changed"), ("c", "three")),
    ]


def test_a_reply_that_was_not_recorded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text('{"key": "a", "reply": "x"}\n')
    judge = RecordedJudge(str(path))
    assert judge.ask([JudgeQuestion("?", key="a")]) == ["x"]
    with pytest.raises(ValueError, match=r"lacks 1 of 2 replies, the first is to key 'a', segment 3, second video"):
        judge.ask([JudgeQuestion("?", key="a"), JudgeQuestion("?", key="a", segment=3, shown_first="second")])


def test_a_faulty_file_of_replies_is_refused_with_all_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text('{"key": "a"}\n\nnot json\n[1]\n')
    with pytest.raises(ValueError, match=r'line 1 lacks "key" or "reply"\n.*line 3 is not JSON.*\n.*line 4 lacks'):
        RecordedJudge(str(path)).ask([JudgeQuestion("?", key="a")])
    with pytest.raises(ValueError, match="no such file of replies"):
        RecordedJudge(str(tmp_path / "absent.jsonl")).ask([JudgeQuestion("?", key="a")])


def test_recorded_replies_in_a_named_pipe_are_refused_and_nothing_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "replies.jsonl")
    judge = RecordedJudge(str(tmp_path / "replies.jsonl"))
    for read in (judge.check, lambda: judge.ask([JudgeQuestion("", key="a")])):
        with pytest.raises(ValueError, match="is not a regular file but a named pipe"):
            read()

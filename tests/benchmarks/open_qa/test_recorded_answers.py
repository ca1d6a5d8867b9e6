"""Answers and replies that were made elsewhere, for the open-ended test sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.open_qa.module import ActivityNetQa, MsvdQa
from datamodules.questions.open_qa import OpenQuestions
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.recorded import RecordedJudge
from tests.support.open_qa_world import data, says, verdict
from tests.support.qa_world import Scripted, ScriptedJudge, run_test, write_json


@pytest.mark.parametrize("form", ["answers.jsonl", "video_chatgpt", "activitynet", "video_llava"])
def test_answers_made_elsewhere_are_judged(world: Path, form: str) -> None:
    expected = run_test(ActivityNetQa(Scripted(says), str(world / "out"), judge=ScriptedJudge(verdict)), data(world))
    rows = json.loads((world / "out" / "predictions_policy.json").read_text())
    path = world / "out" / "answers.jsonl"
    if form == "video_chatgpt":
        path = world / "elsewhere.json"
        write_json(path, [{name: row[name] for name in ("video_name", "Q", "A", "pred")} for row in rows[::-1]])
    elif form == "activitynet":
        path = world / "elsewhere.json"
        write_json(path, [{"question_id": row["question_id"], "answer": row["pred"]} for row in rows])
    elif form == "video_llava":
        path = world / "elsewhere.jsonl"
        path.write_text("".join(
            json.dumps({"id": row["question_id"], "question": row["Q"], "answer": row["A"], "pred": row["pred"]}) + "\n"
            for row in rows
        ))  # fmt: skip
    judge = ScriptedJudge(verdict, "another")
    module = ActivityNetQa(None, str(world / "again"), predictions=str(path), judge=judge)
    results = run_test(module, data(world, videos=None))
    assert len(judge.asked) == 4
    assert {**results, "about": 0} == {**expected, "about": 0}
    assert results["about"]["judge"] == "another"


def test_recorded_replies_count_and_name_their_judge(world: Path) -> None:
    expected = run_test(ActivityNetQa(Scripted(says), str(world / "out"), judge=ScriptedJudge(verdict)), data(world))
    path = world / "out" / "answers.jsonl"
    results = run_test(ActivityNetQa(None, str(world / "again"), predictions=str(path)), data(world, videos=None))
    assert results["about"]["judge"] == "scripted"
    assert results["accuracy"] == expected["accuracy"]
    # Half judged is not judged.
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    del lines[0]["replies"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="1 of 4 answers were never shown to the judge"):
        run_test(ActivityNetQa(None, str(world / "again"), predictions=str(path)), data(world, videos=None))


def test_replies_about_recorded_answers_are_kept(world: Path) -> None:
    run_test(ActivityNetQa(Scripted(says), str(world / "out")), data(world))
    path = world / "p.json"
    path.write_bytes((world / "out" / "predictions_policy.json").read_bytes())

    class Tired(ScriptedJudge):
        def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
            if self.asked:
                raise OSError("the quota is used up")
            return super().ask(questions)

    def scored(judge: ScriptedJudge | None, predictions: Path = path, **options: Any) -> dict[str, Any]:
        module = ActivityNetQa(None, str(world / "again"), predictions=str(predictions), judge=judge, **options)
        return run_test(module, data(world, videos=None))

    with pytest.raises(OSError, match="quota"):
        scored(Tired(verdict))
    judge = ScriptedJudge(verdict)
    first = scored(judge)
    assert [question.key for question in judge.asked] == ["activitynet_qa/v_bright_3"], "three of four had been judged"
    judge = ScriptedJudge(verdict)
    assert scored(judge) == first
    assert not judge.asked
    with pytest.raises(ValueError, match='judge was "scripted", is "another"'):
        scored(ScriptedJudge(verdict, "another"))

    rows = json.loads(path.read_text())
    write_json(path, [{**rows[0], "pred": "a lamp"}, *rows[1:]])
    with pytest.raises(ValueError, match=r"1 answers in .* are not those of model\.predictions[\s\S]*v_bright_0"):
        scored(judge)
    assert scored(judge, fresh=True)["no"] == first["no"] + 1
    # What a judged run leaves can itself be scored without a judge.
    module = ActivityNetQa(None, str(world / "x"), predictions=str(world / "again" / "answers.jsonl"))
    assert run_test(module, data(world, videos=None))["no"] == first["no"] + 1


def test_rows_are_matched_one_by_one(world: Path) -> None:
    """By id, by id as a number's text, by video and question beside a row's number, and another wording by its id."""
    rows = [
        {"id": "v_bright_0", "question": "what is shining", "pred": "sun"},
        {"id": 1, "video_name": "dark", "Q": "what is shining", "pred": "sun"},
        {"video_name": "bright", "Q": "how many are there", "pred": "two"},
        {"question_id": "v_bright_3", "video_name": "bright", "Q": "Is it shining?", "answer": "the sun"},
    ]
    write_json(world / "p.json", rows)
    module = ActivityNetQa(None, str(world / "out"), predictions=str(world / "p.json"))
    assert run_test(module, data(world, videos=None))["exact_match"]["All"] == 1
    # The number of a row that happens to be a question's id.
    msvd = [
        {"video_id": number, "id": number, "question": f"what is {number}", "answer": str(number)} for number in (5, 6)
    ]
    write_json(world / "test_qa.json", msvd)
    numbered = {5: "6", 6: "5"}
    predictions = [
        {"id": number, "video_name": f"vid{n}", "Q": f"what is {n}", "pred": n} for number, n in numbered.items()
    ]
    write_json(world / "p.json", predictions)
    module_of_msvd = MsvdQa(None, str(world / "msvd"), predictions=str(world / "p.json"))
    results = run_test(module_of_msvd, OpenQuestions("msvd_qa", str(world / "test_qa.json"), None))
    assert results["exact_match"]["All"] == 1


def test_only_the_broken_lines_of_a_file_are_told(world: Path) -> None:
    run_test(ActivityNetQa(Scripted(says), str(world / "out")), data(world))
    rows = json.loads((world / "out" / "predictions_policy.json").read_text())
    rows[1]["pred"] = "moon\u2028"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path = world / "p.jsonl"
    path.write_text("\n".join([*lines[:2], lines[2][:-9], lines[3]]), encoding="utf-8")
    module = ActivityNetQa(None, str(world / "again"), predictions=str(path))
    with pytest.raises(ValueError, match="does not fit") as error:
        run_test(module, data(world, videos=None))
    message = " ".join(str(error.value).split())
    assert "1 records cannot be read: p.jsonl: line 3 is not JSON" in message
    assert "1 questions lack an answer: activitynet_qa/v_bright_2" in message
    assert run_test(module, data(world, videos=None, allow_missing=True))["about"]["left_out"] == 1
    with pytest.raises(ValueError, match=r"none\.jsonl"):
        run_test(ActivityNetQa(None, str(world / "o"), predictions=str(world / "none.jsonl")), data(world, videos=None))


def test_a_judge_can_be_recorded_too(world: Path) -> None:
    judge = ScriptedJudge(verdict)
    expected = run_test(ActivityNetQa(Scripted(says), str(world / "out"), judge=judge), data(world))
    replies = "".join(json.dumps({"key": question.key, "reply": verdict(question)}) + "\n" for question in judge.asked)
    (world / "replies.jsonl").write_text(replies)
    recorded = RecordedJudge(str(world / "replies.jsonl"), name="scripted")
    assert run_test(ActivityNetQa(Scripted(says), str(world / "again"), judge=recorded), data(world)) | {
        "about": 0
    } == expected | {"about": 0}


def test_a_file_with_missing_doubled_and_other_questions_is_listed_in_full(world: Path) -> None:
    predictions = [("v_bright_0", "sun"), ("v_bright_2", "one"), ("v_bright_2", "two"), ("v_else_9", "sun")]
    write_json(world / "p.json", [{"question_id": name, "answer": answer} for name, answer in predictions])
    with pytest.raises(ValueError, match="does not fit") as error:
        run_test(ActivityNetQa(None, str(world / "out"), predictions=str(world / "p.json")), data(world, videos=None))
    message = " ".join(str(error.value).split())
    assert "2 questions lack an answer: activitynet_qa/v_dark_1 activitynet_qa/v_bright_3" in message
    assert "1 questions are answered more than once: activitynet_qa/v_bright_2" in message
    assert "1 answers are to questions that are not asked: v_else_9" in message
    module = ActivityNetQa(None, str(world / "out"), predictions=str(world / "p.json"))
    results = run_test(module, data(world, videos=None, allow_missing=True))
    assert results["exact_match"]["All"] == 1
    assert results["about"]["left_out"] == 3
    for content in ({}, [{"question_id": "v_bright_0"}], [{"question_id": "v_bright_0", "answer": None}], ["x"]):
        write_json(world / "p.json", content)
        with pytest.raises(ValueError, match=r"p\.json"):
            run_test(ActivityNetQa(None, str(world / "o"), predictions=str(world / "p.json")), data(world, videos=None))

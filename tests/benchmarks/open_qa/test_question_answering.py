"""MSVD-QA, MSRVTT-QA, TGIF-QA and ActivityNet-QA as tests: a policy, a judge, files made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.open_qa.metric import OpenQaMetric, score
from benchmarks.open_qa.module import ActivityNetQa, MsrvttQa, MsvdQa, OpenQa, TgifQa
from datamodules.questions.open_qa import OpenQuestions
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.recorded import RecordedJudge
from tests.support.qa_world import Scripted, ScriptedJudge, details_of, run_test, write_json, write_video


def says(prompt: str, brightness: float) -> str:
    return ("the sun" if brightness > 100 else "moon") if "shining" in prompt else "Two."


def verdict(question: JudgeQuestion) -> str:
    """Right where the answers share a word; nothing readable about numbers."""
    if "Two." in question.text:
        return "I cannot say."
    return "{'pred': 'yes', 'score': 4.8}" if "the sun" in question.text else "Well: {'pred': 'no', 'score': 1}"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Four questions about two videos of ActivityNet: one right, one nearly, one wrong, one in other words."""
    asked = [("bright", "what is shining", "sun", 5), ("dark", "what is shining", "sun", 5),
             ("bright", "how many are there", "two", 7), ("bright", "is it shining", "the sun", 3)]  # fmt: skip
    names = [f"v_{video}_{number}" for number, (video, *_) in enumerate(asked)]
    write_json(
        tmp_path / "test_q.json",
        [
            {"video_name": video, "question": question, "question_id": name}
            for name, (video, question, *_) in zip(names, asked, strict=True)
        ],
    )
    answers = [
        {"answer": answer, "type": kind, "question_id": name}
        for name, (*_, answer, kind) in zip(names, asked, strict=True)
    ]
    write_json(tmp_path / "test_a.json", answers[::-1])
    write_video(tmp_path / "videos" / "v_bright.mp4", 220)
    write_video(tmp_path / "videos" / "dark.mkv", 20)
    return tmp_path


def data(world: Path, **options: Any) -> OpenQuestions:
    known = {"answers": str(world / "test_a.json"), "videos": str(world / "videos"), "num_frames": 2, "batch_size": 3}
    return OpenQuestions("activitynet_qa", str(world / "test_q.json"), **(known | options))


def test_a_policy_is_asked_and_its_answers_are_judged(world: Path) -> None:
    judge = ScriptedJudge(verdict)
    results = run_test(ActivityNetQa(Scripted(says), str(world / "out"), judge=judge), data(world))
    assert results["accuracy"] == 2 / 3
    assert results["average_score"] == (4 + 1 + 4) / 3
    counts = {name: results[name] for name in ("yes", "no", "neither", "unparsed")}
    assert counts == {"yes": 2, "no": 1, "neither": 0, "unparsed": 1}
    assert results["exact_match"] == {"All": 1 / 4, "Free": 1 / 4, "Object": 0, "Number": 0, "Yes/No": 1}
    assert results["normalized_exact_match"]["All"] == 3 / 4
    about = results["about"]
    assert (about["benchmark"], about["judge"]) == ("ActivityNet-QA", "scripted")
    assert about["annotations"]["activitynet_qa"]["scored"] == 4
    assert about["unparsed"] == {"accuracy": [1, 4], "average_score": [1, 4]}
    assert list(about["intervals"]["of"]) == [
        "accuracy", "average_score", "exact_match/All", "normalized_exact_match/All",
    ]  # fmt: skip
    low, high = about["intervals"]["of"]["average_score"]
    assert 1 <= low < results["average_score"] < high <= 4
    assert "Correct Answer: sun\nPredicted Answer: moon\n" in judge.asked[1].text
    assert "evaluating the correctness" in (judge.asked[0].system or "")
    assert details_of(world / "out")["unparsed_replies"] == {"v_bright_2": "I cannot say."}

    published = json.loads((world / "out" / "predictions_policy.json").read_text())
    assert published[1] == {"question_id": "v_dark_1", "video_name": "dark", "Q": "what is shining", "A": "sun",
                            "pred": "moon"}  # fmt: skip
    judged = json.loads((world / "out" / "judged_policy.json").read_text())
    assert judged["dark_0"] == [{"pred": "no", "score": 1}, {"q": "what is shining", "a": "sun", "pred": "moon"}]
    assert judged["bright_1"][0] is None


def test_without_a_judge_there_is_no_accuracy_and_results_say_so(world: Path) -> None:
    results = run_test(ActivityNetQa(Scripted(says), str(world / "out")), data(world))
    assert "accuracy" not in results
    assert "accuracy" not in results["about"]["intervals"]["of"]
    assert results["about"]["judge"] is None
    assert "model.judge" in details_of(world / "out")["absent"]["accuracy"]


def test_a_reply_that_cannot_be_read_is_asked_for_again(world: Path) -> None:
    judge = ScriptedJudge(lambda question: verdict(question) if question.attempt < 2 else "{'pred': 'no', 'score': 0}")
    results = run_test(ActivityNetQa(Scripted(says), str(world / "out"), judge=judge, attempts=3), data(world))
    assert (results["no"], results["unparsed"]) == (2, 0)
    assert [question.attempt for question in judge.asked if "Two." in question.text] == [0, 1, 2]
    assert len(judge.asked) == 6
    with pytest.raises(ValueError, match=r"model\.attempts"):
        ActivityNetQa(Scripted(says), str(world), judge=judge, attempts=0)


def test_the_same_command_again_asks_neither_policy_nor_judge(world: Path) -> None:
    first = run_test(ActivityNetQa(Scripted(says), str(world / "out"), judge=ScriptedJudge(verdict)), data(world))
    policy, judge = Scripted(says), ScriptedJudge(verdict)
    assert run_test(ActivityNetQa(policy, str(world / "out"), judge=judge), data(world)) == first
    assert not policy._asked
    assert not judge.asked
    assert not judge.loaded
    other = ActivityNetQa(Scripted(says), str(world / "out"), judge=ScriptedJudge(verdict, "another"))
    with pytest.raises(ValueError, match='judge was "scripted", is "another"'):
        run_test(other, data(world))


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


def test_types_of_tgif_qa(tmp_path: Path) -> None:
    rows = [("what runs", "cat", 0), ("how many run", "two", 1), ("where is it", "street", 3)]
    head = "gif_name\tquestion\tanswer\ttype\n"
    (tmp_path / "q.csv").write_text(
        head + "".join(f"a\t{question}\t{answer}\t{kind}\n" for question, answer, kind in rows)
    )
    write_json(tmp_path / "p.json", [{"video_name": "a", "Q": question, "pred": "cat"} for question, *_ in rows])
    module = TgifQa(None, str(tmp_path / "out"), predictions=str(tmp_path / "p.json"))
    results = run_test(module, OpenQuestions("tgif_qa", str(tmp_path / "q.csv"), None))
    assert results["exact_match"] == {"All": 1 / 3, "Object": 1, "Number": 0, "Location": 0}


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


def test_missing_videos_are_listed_before_anything_is_asked(world: Path) -> None:
    for path in (world / "videos").iterdir():
        if path.stem == "dark":
            path.unlink()
    policy = Scripted(says)
    with pytest.raises(ValueError, match="1 videos are missing"):
        run_test(ActivityNetQa(policy, str(world / "out")), data(world))
    assert not policy._asked
    results = run_test(ActivityNetQa(policy, str(world / "out")), data(world, allow_missing=True))
    assert results["about"]["left_out"] == 1
    assert results["about"]["annotations"]["activitynet_qa"]["scored"] == 3


@pytest.mark.parametrize(
    ("kind", "title"), [(MsvdQa, "MSVD-QA"), (MsrvttQa, "MSRVTT-QA"), (TgifQa, "TGIF-QA"), (ActivityNetQa, None)]
)
def test_each_test_set_has_its_class(world: Path, kind: type[OpenQa], title: str | None) -> None:
    assert kind.title == title or kind is ActivityNetQa
    if title is not None:
        with pytest.raises(ValueError, match=r"data\.dataset is activitynet_qa"):
            run_test(kind(Scripted(says), str(world / "out")), data(world))
    row = "vista_dpo/table2/Video-LLaVA"
    assert kind(None, str(world), predictions="p.json", paper=row).paper is not None


def test_the_papers_row_stands_beside_ours(world: Path) -> None:
    judge = ScriptedJudge(verdict, "gpt-3.5-turbo")
    module = ActivityNetQa(Scripted(says), str(world / "out"), judge=judge, paper="vista_dpo/table2/Video-LLaVA")
    paper = run_test(module, data(world))["about"]["paper"]
    (number,) = paper["numbers"]
    assert "the paper has 8000 questions in activitynet_qa, this run's file 4" in paper["not_comparable"]
    assert "1 replies could not be read" in paper["not_comparable"]
    assert number["paper"] == 45.3
    assert number["ours"] == pytest.approx(200 / 3)


def test_the_metric_counts_an_answer_once() -> None:
    metric = OpenQaMetric()
    item = {"answer": "sun", "predict": "sun", "replies": {"verdict": "{'pred': 'yes', 'score': 5}"}}
    metric.update({"x/0": item})
    metric.update({"x/0": item, "x/1": {**item, "predict": "moon", "replies": {"verdict": "?"}}})
    results = metric.compute()
    assert (results["accuracy"], results["unparsed"], results["exact_match"]["All"]) == (1, 1, 1 / 2)


def test_a_question_that_comes_twice_is_no_test_set() -> None:
    record = {"question_id": "a", "answer": "x", "predict": "x"}
    with pytest.raises(ValueError, match="a is asked 2 times"):
        score([record, record])

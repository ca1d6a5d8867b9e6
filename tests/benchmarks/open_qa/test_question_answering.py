"""MSVD-QA, MSRVTT-QA, TGIF-QA and ActivityNet-QA as tests: a policy and a judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.open_qa.metric import OpenQaMetric, score
from benchmarks.open_qa.module import ActivityNetQa, MsrvttQa, MsvdQa, OpenQa, TgifQa
from datamodules.questions.open_qa import OpenQuestions
from tests.support.open_qa_world import data, says, verdict
from tests.support.qa_world import Scripted, ScriptedJudge, details_of, run_test, write_json


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

"""Video-ChatGPT's bench: five dimensions from three files, and the words that its judge is asked in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.videochatgpt import prompts
from benchmarks.videochatgpt.module import VideoChatGpt, VideoChatGptMetric, score
from benchmarks.videochatgpt.prompts import DIMENSIONS, Wording
from datamodules.questions.videochatgpt import VideoChatGptQuestions
from lightning_modules.judges.base import JudgeQuestion
from tests.support.qa_world import Scripted, ScriptedJudge, details_of, run_test, write_json, write_video

#: Of system and user text, as published, with a zero byte between.
WORDS = {
    "ZERO_SHOT": "a02566c6f7c46042",
    "CORRECTNESS": "026076e330815b0b",
    "DETAIL": "845080703e8591dc",
    "CONTEXT": "8f618afccd012fc1",
    "TEMPORAL": "84859806b0abb3e7",
    "CONSISTENCY": "8b124202ba536ffe",
}


@pytest.mark.parametrize("name", WORDS)
def test_the_judge_is_asked_in_the_published_words(name: str) -> None:
    wording: Wording = getattr(prompts, name)
    assert hashlib.sha256("\0".join(wording).encode()).hexdigest()[:16] == WORDS[name]


def test_texts_are_put_in_their_places_whatever_they_hold() -> None:
    asked = Wording("s", "<<question>>: <<answer>>, {x}").about("k", {"question": "<<answer>>", "answer": "{b}"})
    assert (asked.text, asked.system, asked.key) == ("<<answer>>: {b}, {x}", "s", "k")


def says(prompt: str, brightness: float) -> str:
    return f"{prompt} It is {'bright' if brightness > 100 else 'dark'}."


def judged(question: JudgeQuestion) -> str:
    place, dimension = question.key.rsplit("/", 1)
    if place == "generic/000001":
        return "score: 4"
    return str({"score": {"correctness": 5, "detail": 4, "context": 3, "temporal": 2, "consistency": 1}[dimension]})


@pytest.fixture
def world(tmp_path: Path) -> Path:
    generic = [{"Q": "What is it?", "A": "A lamp.", "video_name": name} for name in ("v_bright", "v_dark", "v_bright")]
    write_json(tmp_path / "generic_qa.json", generic)
    write_json(tmp_path / "temporal_qa.json", [{"Q": "When?", "A": "Now.", "video_name": "v_dark"}])
    twice = {"Q1": "Is it on?", "Q2": "Does it shine?", "A": "Yes.", "video_name": "v_bright"}
    write_json(tmp_path / "consistency_qa.json", [twice, {**twice, "video_name": "v_dark"}])
    write_video(tmp_path / "videos" / "v_bright.mp4", 220)
    write_video(tmp_path / "videos" / "v_dark.mp4", 20)
    return tmp_path


def data(world: Path, **options: Any) -> VideoChatGptQuestions:
    known = {"videos": str(world / "videos"), "num_frames": 2, "batch_size": 4}
    return VideoChatGptQuestions(str(world), **(known | options))


def test_answers_are_judged_in_five_dimensions(world: Path) -> None:
    judge = ScriptedJudge(judged)
    results = run_test(VideoChatGpt(Scripted(says), str(world / "out"), judge=judge), data(world))
    assert results["correctness"] == {"average_score": 10 / 3, "questions": 3, "unparsed": 1}
    averages = {name: results[name]["average_score"] for name in DIMENSIONS}
    assert averages == pytest.approx(
        {"correctness": 10 / 3, "detail": 8 / 3, "context": 2, "temporal": 2, "consistency": 1}
    )
    assert results["all"]["average_score"] == pytest.approx(sum(averages.values()) / 5)
    assert results["all"]["unparsed"] == 3
    assert details_of(world / "out")["unparsed_replies"]["detail"] == ["score: 4"]
    about = results["about"]
    assert set(about["intervals"]["of"]) == {f"{name}/average_score" for name in (*DIMENSIONS, "all")}
    assert about["unparsed"]["detail/average_score"] == [1, 3]
    assert about["unparsed"]["all/average_score"] == [3, 3 * 3 + 1 + 2]
    assert {part: counts["scored"] for part, counts in about["annotations"].items()} == {
        "generic": 3, "temporal": 1, "consistency": 2,
    }  # fmt: skip

    both = next(question.text for question in judge.asked if question.key == "consistency/000001/consistency")
    assert "Predicted Answer to Question 1: Is it on? It is dark." in both
    assert "Predicted Answer to Question 2: Does it shine? It is dark." in both
    published = json.loads((world / "out" / "consistency_qa_policy.json").read_text())
    assert published[0]["pred2"] == "Does it shine? It is bright."
    assert set(published[0]) == {"Q1", "Q2", "A", "video_name", "pred1", "pred2"}


@pytest.mark.parametrize("source", ["answers.jsonl", ""])
def test_answers_made_elsewhere_are_judged(world: Path, source: str) -> None:
    first = run_test(VideoChatGpt(Scripted(says), str(world / "out"), judge=ScriptedJudge(judged)), data(world))
    judge = ScriptedJudge(judged)
    module = VideoChatGpt(None, str(world / "again"), predictions=str(world / "out" / source), judge=judge)
    results = run_test(module, data(world, videos=None))
    assert len(judge.asked) == 3 * 3 + 1 + 2
    assert results | {"about": 0} == first | {"about": 0}


def test_recorded_rows_without_all_answers_are_listed(world: Path) -> None:
    run_test(VideoChatGpt(Scripted(says), str(world / "out"), judge=ScriptedJudge(judged)), data(world))
    path = world / "out" / "consistency_qa_policy.json"
    rows = json.loads(path.read_text())
    write_json(path, [{**rows[0], "pred2": None}, rows[1], 3])
    (world / "out" / "temporal_qa_policy.json").unlink()
    module = VideoChatGpt(None, str(world / "x"), predictions=str(world / "out"), judge=ScriptedJudge(judged))
    with pytest.raises(ValueError, match=r"PART_qa_NAME\.json[\s\S]*row 2 is no[\s\S]*2 questions lack") as error:
        run_test(module, data(world, videos=None))
    assert "consistency/000000" in str(error.value)


def test_dimensions_of_the_same_answers_are_drawn_together(world: Path) -> None:
    """Were they drawn apart, the mean of three equal columns would vary less than each of them."""
    write_json(
        world / "generic_qa.json", [{"Q": f"What is {number}?", "A": "It.", "video_name": "v"} for number in range(40)]
    )
    answers = [
        {"key": f"generic/{number:06d}", "predict": "It.",
         "replies": {name: str({"score": number % 6}) for name in ("correctness", "detail", "context")}}
        for number in range(40)
    ]  # fmt: skip
    asks = data(world, videos=None, parts=["generic"])
    asks.setup("test")
    lines = [answer | {"asked": asks.everything[answer["key"]].fingerprint} for answer in answers]
    (world / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    module = VideoChatGpt(None, str(world / "out"), predictions=str(world / "a.jsonl"))
    bounds = run_test(module, data(world, videos=None, parts=["generic"]))["about"]["intervals"]["of"]
    assert bounds["all/average_score"] == pytest.approx(bounds["detail/average_score"])


def test_a_judge_is_needed_unless_its_replies_were_recorded(world: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.judge"):
        run_test(VideoChatGpt(Scripted(says), str(world / "out")), data(world))
    first = run_test(VideoChatGpt(Scripted(says), str(world / "out"), judge=ScriptedJudge(judged),
                                  fresh=True), data(world))  # fmt: skip
    again = VideoChatGpt(None, str(world / "again"), predictions=str(world / "out" / "answers.jsonl"))
    results = run_test(again, data(world, videos=None))
    assert results["correctness"] == first["correctness"]
    assert results["about"]["judge"] == "scripted"
    with pytest.raises(ValueError, match=r"model\.judge"):
        run_test(VideoChatGpt(None, str(world / "x"), predictions=str(world / "out")), data(world, videos=None))


def test_every_fault_of_a_file_is_listed(world: Path) -> None:
    write_json(world / "generic_qa.json", [{"Q": "What?", "A": "It."}, {"Q": " ", "A": "It.", "video_name": "v"}, 3])
    with pytest.raises(ValueError, match="3 faults") as error:
        data(world).setup("test")
    for fault in ("row 0: has no video_name", "row 1: has no Q", "row 2: is no JSON object"):
        assert fault in str(error.value)
    (world / "generic_qa.json").unlink()
    with pytest.raises(ValueError, match=r"generic_qa\.json does not exist"):
        data(world).setup("test")
    with pytest.raises(ValueError, match="holds 1 questions, 499 were asked for"):
        data(world, parts=["temporal"], num_questions={"temporal": 499}).setup("test")
    with pytest.raises(ValueError, match=r"data\.parts"):
        data(world, parts=[])


def test_an_answer_belongs_to_both_wordings(world: Path) -> None:
    """A changed second wording is another question."""
    run_test(VideoChatGpt(Scripted(says), str(world / "out"), judge=ScriptedJudge(judged)), data(world))
    rows = json.loads((world / "consistency_qa.json").read_text())
    rows[1]["Q2"] = "Does it glow?"
    write_json(world / "consistency_qa.json", rows)
    with pytest.raises(ValueError, match="other questions") as error:
        run_test(VideoChatGpt(Scripted(says), str(world / "out"), judge=ScriptedJudge(judged)), data(world))
    assert "consistency/000001" in str(error.value)
    assert "consistency/000000" not in str(error.value)


def test_the_metric_and_the_score_are_the_same() -> None:
    metric = VideoChatGptMetric()
    metric.update({"temporal/0": {"replies": {"temporal": "{'score': 3}"}}})
    metric.update({"temporal/1": {"replies": {"temporal": "?"}}})
    assert metric.compute() == score({"temporal": ["{'score': 3}", "?"]})
    with pytest.raises(ValueError, match="no replies"):
        score({})

"""EventHallusion as a test: a policy that is asked, and descriptions that are judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.event_hallusion.judge import judge_question
from benchmarks.event_hallusion.module import EventHallusion
from benchmarks.event_hallusion.scores import EventHallusionMetric, score
from lightning_modules.judges.base import JudgeQuestion
from tests.support.event_world import BOTH, Bright, Scripted, record, run


def test_a_policy_is_asked_and_its_descriptions_are_judged(world: Path) -> None:
    judge = Bright()
    results = run(EventHallusion(Scripted(), str(world / "out"), judge=judge), world, parts=BOTH)
    assert judge.loaded == 1
    assert results["entire"] == {
        "binary_accuracy": 2 / 3, "binary_unmatched": 0, "questions": 3,
        "description_accuracy": 1 / 2, "description_unmatched": 0, "videos": 2,
    }  # fmt: skip
    assert results["all"]["binary_accuracy"] == 2 / 4
    assert results["all"]["description_accuracy"] == 2 / 3
    about = results["about"]
    assert about["judge"] == "bright"
    assert about["annotations"]["entire"]["videos"] == about["annotations"]["entire"]["scored"] == 2
    low, high = about["intervals"]["of"]["all/binary_accuracy"]
    assert low < 2 / 4 < high
    assert "all_but_misleading/description_accuracy" in about["intervals"]["of"]

    published = json.loads((world / "out" / "predictions_policy.json").read_text())
    bright = published["entire"]["bright"]
    assert [qa["prediction"] for qa in bright["qa"]] == ["No.", "No."]
    assert bright["event_info"]["caption"] == "It is bright."
    assert bright["judgement"] == "**Yes**"
    assert score(published) == {part: scores for part, scores in results.items() if part != "about"}


def test_the_results_say_that_the_judge_was_asked_in_other_words(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    paper = "vista_dpo/table1/Video-LLaVA + VistaDPO"
    judged = run(EventHallusion(Scripted(), str(world / "out"), judge=Bright(), paper=paper), world, parts=BOTH)
    (remark,) = judged["about"]["remarks"]
    assert remark.startswith("the judge was asked about descriptions in this project's words, not in the authors'")
    assert remark in judged["about"]["paper"]["not_comparable"]
    assert f"\nT{remark[1:]}." in capsys.readouterr().out
    assert judged["about"]["unparsed"]["all/description_accuracy"] == [0, 3]
    # Questions by yes or no need no judge.
    assert run(EventHallusion(Scripted(), str(world / "binary")), world, parts=["binary"])["about"]["remarks"] == []


def test_the_same_command_again_asks_nobody(world: Path) -> None:
    first = run(EventHallusion(Scripted(), str(world / "out"), judge=Bright()), world, parts=BOTH)
    judge = Bright()
    assert run(EventHallusion(Scripted(), str(world / "out"), judge=judge), world, parts=BOTH) == first
    assert not judge.asked
    assert not judge.loaded


def test_recorded_descriptions_are_judged_anew_by_another_judge(world: Path) -> None:
    run(EventHallusion(Scripted(), str(world / "out"), judge=Bright()), world, parts=BOTH)
    for source in ("answers.jsonl", "predictions_policy.json"):
        judge = Bright()
        again = EventHallusion(None, str(world / source), predictions=str(world / "out" / source), judge=judge)
        results = run(again, world, parts=BOTH, videos=None)
        assert len(judge.asked) == 3
        assert results["all"]["description_accuracy"] == 2 / 3
        # Without a judge the recorded judgements count.
        again = EventHallusion(None, str(world / "again"), predictions=str(world / "out" / source))
        results = run(again, world, parts=BOTH, videos=None)
        assert results["all"]["description_accuracy"] == 2 / 3
        assert not (world / "again" / "answers.jsonl").exists()
        # The published format does not say who judged.
        assert results["about"]["judge"] == ("bright" if source == "answers.jsonl" else None)


def test_descriptions_need_a_judge_before_anything_is_asked(world: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.judge"):
        run(EventHallusion(Scripted(), str(world / "out")), world, parts=BOTH)


def test_a_judge_that_says_neither_is_asked_again_and_then_counted(world: Path) -> None:
    class Unsure(Bright):
        def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
            self.asked += questions
            return [
                "Yes." if question.attempt and "picture of 2" in question.text else "Perhaps." for question in questions
            ]

    judge = Unsure()
    results = run(EventHallusion(Scripted(), str(world / "out"), judge=judge, attempts=2), world, parts=BOTH)
    assert sorted(question.attempt for question in judge.asked) == [0, 0, 0, 1, 1, 1]
    assert results["all"]["description_accuracy"] == 2 / 3
    assert results["all"]["description_unmatched"] == 1 / 3
    details = json.loads((world / "out" / "details.json").read_text())
    assert details["unparsed_replies"] == {"entire/dark": "Perhaps."}


def test_a_missing_video_leaves_its_questions_out(world: Path) -> None:
    (world / "videos" / "dark.mp4").unlink()
    with pytest.raises(ValueError, match="dark"):
        run(EventHallusion(Scripted(), str(world / "out")), world)
    results = run(EventHallusion(Scripted(), str(world / "out"), judge=Bright()), world, parts=BOTH, allow_missing=True)
    assert results["entire"]["binary_accuracy"] == 1
    assert results["entire"]["videos"] == 1
    assert results["about"]["left_out"] == 2


def test_the_judge_is_asked_about_what_the_split_is_about() -> None:
    row = record("x", ["No."])
    assert "It is x." in judge_question("k", "entire", row, "A {caption} dog.").text
    assert "A {caption} dog." in judge_question("k", "entire", row, "A {caption} dog.").text
    assert "x turns dark." in judge_question("k", "interleave", row, "d").text


def test_what_a_judge_cannot_compare_is_told_before_anything_is_asked(world: Path) -> None:
    asked = world / "questions" / "interleave_questions.json"
    (row,) = json.loads(asked.read_text())
    del row["event_info"]["unexpected"]
    asked.write_text(json.dumps([row]))
    (world / "questions" / "mixed_questions.json").write_text(json.dumps([record("dark", ["No."])]))
    options: dict[str, Any] = {
        "questions": [str(world / "questions" / f"{split}_questions.json") for split in ("interleave", "mixed")],
        "parts": BOTH,
    }
    with pytest.raises(ValueError, match="cannot compare") as error:
        run(EventHallusion(Scripted(), str(world / "out"), judge=Bright()), world, **options)
    assert "interleave/bright2 has no event_info.unexpected" in str(error.value)
    assert "about split 'mixed'" in str(error.value)
    assert not (world / "out").exists()


def test_vistadpo_describes_no_videos_of_the_misleading_split(world: Path) -> None:
    (world / "questions" / "misleading_questions.json").write_text(json.dumps([record("dark", ["No."])]))
    options: dict[str, Any] = {"parts": BOTH, "described_splits": ["entire", "interleave"]}
    results = run(EventHallusion(Scripted(), str(world / "out"), judge=Bright()), world, **options)
    assert results["about"]["left_out"] == 0
    assert results["all_but_misleading"]["description_accuracy"] == 2 / 3
    intervals = results["about"]["intervals"]["of"]
    assert "all_but_misleading/description_accuracy" in intervals
    assert "description_accuracy" not in results["all"]
    assert "all/description_accuracy" not in intervals
    # The file may hold more than is asked for.
    again = EventHallusion(None, str(world / "again"), predictions=str(world / "out" / "predictions_policy.json"))
    assert run(again, world, videos=None, **options)["all"] == results["all"]
    with pytest.raises(ValueError, match="described_splits names mixed"):
        run(again, world, videos=None, parts=BOTH, described_splits=["mixed"])


def test_the_metric_needs_no_annotation() -> None:
    metric = EventHallusionMetric()
    metric.update({"entire/a/0": {"answer": "No.", "predict": "no"}, "entire/a/1": {"answer": "No.", "predict": "yes"}})
    metric.update({})
    metric.update({"entire/b/description": {"judgement": "Yes"}})
    assert metric.compute()["all"] == {
        "binary_accuracy": 1 / 2, "binary_unmatched": 0, "questions": 2,
        "description_accuracy": 1, "description_unmatched": 0, "videos": 1,
    }  # fmt: skip

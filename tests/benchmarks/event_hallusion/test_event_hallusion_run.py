"""EventHallusion as a test: a policy that is asked, descriptions that are judged, files made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, device, nn

from benchmarks.event_hallusion.judge import judge_question
from benchmarks.event_hallusion.module import EventHallusion
from benchmarks.event_hallusion.scores import EventHallusionMetric, score
from datamodules.questions.event_hallusion import EventQuestions, read_split
from datamodules.video.codec import encode_mp4
from lightning_modules.judges.base import Judge, JudgeQuestion
from tests.support.quiet_trainer import quiet_trainer


class Scripted(nn.Module):
    """Says no to what it is asked, and of a video how bright it is."""

    def load(self) -> None:
        """Nothing to load."""

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        return [
            f"A picture of {float(video.float().mean()):.0f}." if "describe" in prompt else "No."
            for prompt, video in zip(prompts, frames, strict=True)
        ]


class Bright(Judge):
    """Accepts descriptions of bright videos."""

    def __init__(self) -> None:
        self.asked: list[JudgeQuestion] = []
        self.loaded = 0

    @property
    def name(self) -> str:
        return "bright"

    def load(self, device: device) -> None:
        self.loaded += 1

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        self.asked += questions
        return ["**Yes**" if "picture of 2" in question.text else "No." for question in questions]


def record(video: str, answers: list[str]) -> dict[str, Any]:
    return {
        "id": video,
        "event_info": {"caption": f"It is {video}.", "unexpected": f"{video} turns dark."},
        "questions": [{"type": "hallucination", "question": f"Is it {n}?", "answer": a} for n, a in enumerate(answers)],
    }


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """entire: bright (two questions, both no) and dark (one); interleave: bright2 (one, yes)."""
    splits = {
        "entire": [record("bright", ["No.", "No."]), record("dark", ["Yes."])],
        "interleave": [record("bright2", ["Yes."])],
    }
    (tmp_path / "questions").mkdir()
    for split, rows in splits.items():
        (tmp_path / "questions" / f"{split}_questions.json").write_text(json.dumps(rows))
    for place, value in (("entire/bright.mp4", 210), ("dark.mp4", 20), ("interleave/bright2.avi", 220)):
        path = tmp_path / "videos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_mp4(np.full((3, 16, 16, 3), value, np.uint8), fps=4.0))
    return tmp_path


def run(module: EventHallusion, world: Path, **options: Any) -> dict[str, Any]:
    data = {"questions": str(world / "questions"), "videos": str(world / "videos"), "num_frames": 2, "batch_size": 3}
    quiet_trainer().test(module, EventQuestions(**(data | options)), verbose=False)
    results: dict[str, Any] = json.loads((module.output / "results.json").read_text())
    return results


BOTH = ["binary", "description"]


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


def test_a_file_with_missing_doubled_and_other_questions_is_listed_in_full(world: Path) -> None:
    run(EventHallusion(Scripted(), str(world / "out")), world)
    path = world / "out" / "predictions_policy.json"
    published = json.loads(path.read_text())
    published["entire"]["bright"]["qa"].append({**published["entire"]["bright"]["qa"][0], "prediction": "Yes."})
    published["entire"]["dark"]["qa"][0]["question"] = "Was it another?"
    del published["interleave"]["bright2"]
    path.write_text(json.dumps(published))
    again = EventHallusion(None, str(world / "again"), predictions=str(path))
    with pytest.raises(ValueError, match="does not fit") as error:
        run(again, world, videos=None)
    message = " ".join(str(error.value).split())
    assert "2 questions lack an answer: entire/dark/0 interleave/bright2/0" in message
    assert "1 questions are answered more than once: entire/bright/0" in message
    assert "1 answers are to questions that are not asked: ('entire', 'dark', 'Was it another?')" in message

    results = run(again, world, videos=None, allow_missing=True)
    assert results["all"]["questions"] == 1
    assert results["about"]["left_out"] == 3


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


def published(world: Path) -> dict[str, Any]:
    """Recorded predictions with judgements."""
    run(EventHallusion(Scripted(), str(world / "out"), judge=Bright()), world, parts=BOTH)
    predictions: dict[str, Any] = json.loads((world / "out" / "predictions_policy.json").read_text())
    return predictions


def test_a_null_judgement_is_no_answer_and_a_null_prediction_is_neither_yes_nor_no(world: Path) -> None:
    content = published(world)
    content["entire"]["dark"]["judgement"] = None
    content["entire"]["dark"]["qa"][0]["prediction"] = None
    path = world / "p.json"
    path.write_text(json.dumps(content))
    again = EventHallusion(None, str(world / "again"), predictions=str(path))
    with pytest.raises(ValueError, match=r"1 questions lack an answer:\s+entire/dark/description"):
        run(again, world, parts=BOTH, videos=None)
    results = run(again, world, parts=BOTH, videos=None, allow_missing=True)
    assert results["about"]["left_out"] == 1
    assert (results["entire"]["binary_unmatched"], results["entire"]["videos"]) == (1 / 3, 1)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda content: [content], "p.json holds no splits by their names"),
        (lambda content: content | {"entire": None}, "entire/dark/0"),
        (lambda content: content | {"entire": ["x"]}, "p.json: entire holds no records by their names"),
        (lambda content: content | {"entire": {"dark": "x"}}, "p.json: entire: dark is no record"),
        (lambda content: content["entire"]["dark"].update(qa="x") or content, "entire/dark.qa holds no list"),
        (lambda content: content["entire"]["dark"]["qa"][0].pop("prediction") and content, "entire/dark/0"),
    ],
)
def test_records_of_another_shape_are_listed(world: Path, damage: Any, fault: str) -> None:
    path = world / "p.json"
    path.write_text(json.dumps(damage(published(world))))
    again = EventHallusion(None, str(world / "again"), predictions=str(path))
    with pytest.raises(ValueError, match="does not fit") as error:
        run(again, world, videos=None)
    assert fault in str(error.value)


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


def test_every_fault_of_an_annotation_file_is_listed(tmp_path: Path) -> None:
    good = record("a", ["No."])
    odd = [good, good, {"id": "../b", "questions": []}, {**record("c", ["Perhaps"]), "event_info": {}}, "x"]
    path = tmp_path / "entire_questions.json"
    path.write_text(json.dumps(odd))
    with pytest.raises(ValueError, match="6 faults") as error:
        read_split(path)
    for fault in (
        "row 1: a occurs twice",
        "'../b' is no name",
        "row 2: has no questions",
        "'Perhaps'",
        "row 3: has no",
    ):
        assert fault in str(error.value)
    for content in ("{", "{}"):
        path.write_text(content)
        with pytest.raises(ValueError, match="entire_questions"):
            read_split(path)


def test_splits_are_chosen_and_named(world: Path, tmp_path: Path) -> None:
    data = EventQuestions(str(world / "questions"), None, splits=["interleave"])
    data.setup("test")
    assert data.asked == ["interleave/bright2/0"]
    with pytest.raises(ValueError, match=r"no questions for \['mixed'\] .* entire, interleave"):
        EventQuestions(str(world / "questions"), None, splits=["mixed"]).setup("test")
    with pytest.raises(ValueError, match=r"data\.parts"):
        EventQuestions(str(world / "questions"), None, parts=[])
    limited = EventQuestions(str(world / "questions"), None, limit_videos=1)
    limited.setup("test")
    assert limited.asked == ["entire/bright/0", "entire/bright/1", "interleave/bright2/0"]

"""EventHallusion's files: annotations, and answers that were made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.event_hallusion.module import EventHallusion
from datamodules.questions.event_hallusion import EventQuestions, read_split
from tests.support.event_world import BOTH, Bright, Scripted, record, run


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

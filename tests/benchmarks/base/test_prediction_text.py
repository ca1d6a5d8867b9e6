"""One reading of recorded predictions, whichever benchmark they are for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.answers import read_lines
from benchmarks.base.prediction_text import NotText, prediction_text, recorded_text
from benchmarks.base.predictions import RecordedFiles, answer_of
from benchmarks.event_hallusion.scores import score as event_score
from benchmarks.video_hallucer.module import VideoHallucer
from benchmarks.video_hallucer.module import score as hallucer_score
from tests.support.hallucer_world import Scripted, results_of, run_test, world

__all__ = ["world"]

NOT_TEXTS = [True, False, float("nan"), float("inf"), ["Yes."], {"said": "Yes."}]


@pytest.mark.parametrize("value", NOT_TEXTS)
def test_what_is_no_answer_is_refused_by_its_json(value: Any) -> None:
    with pytest.raises(ValueError, match="is no text; write the model's reply, or null for none") as error:
        prediction_text(value)
    assert json.dumps(value) in str(error.value)
    text = recorded_text({"pred": value}, "predict", "pred")
    assert isinstance(text, NotText)
    with pytest.raises(ValueError, match="is no text"):
        prediction_text(text)


def test_a_number_is_its_digits_and_null_is_nothing() -> None:
    assert [prediction_text(prediction) for prediction in (3, 2.5, "Yes.", "")] == ["3", "2.5", "Yes.", ""]
    assert recorded_text({"predict": None}, "predict") is None
    assert recorded_text({}, "predict") is None


def test_lines_with_something_else_than_a_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"key": "a", "predict": 3}\n{"key": "b", "predict": NaN}\n{"key": "c", "predict": [1]}\n')
    with pytest.raises(ValueError, match="2 lines that are no answers") as error:
        read_lines(path)
    assert "line 2: the prediction NaN is no text" in str(error.value)
    assert "line 3: the prediction [1] is no text" in str(error.value)
    path.write_text('{"key": "a", "predict": 3}\n')
    assert read_lines(path) == [("a", {"predict": "3"})]


def test_recorded_files_list_them_and_leave_their_questions_without_an_answer() -> None:
    files = RecordedFiles()
    predictions = [
        (("temporal", "a.mp4"), answer_of({"predict": True}, "predict")),
        ("b", answer_of({"pred": "No."}, "pred")),
    ]
    recorded = files.matched(predictions, {"one": ("temporal", "a.mp4"), "two": "b"}, ["one", "two"])
    assert recorded.answers == {"two": {"predict": "No."}}
    assert recorded.unreadable == ["temporal / a.mp4: its prediction is true, no text"]
    assert recorded.missing == ["one"]


def hallucer_pairs(prediction: Any) -> dict[str, Any]:
    half = {"video": "a.mp4", "question": "Is it?", "answer": "yes"}
    return {"temporal": [{"basic": {**half, "predict": prediction}, "hallucination": {**half, "predict": "no"}}]}


def event_records(prediction: Any) -> dict[str, Any]:
    return {"entire": {"v1": {"qa": [{"question": "Is it?", "answer": "Yes.", "prediction": prediction}]}}}


@pytest.mark.parametrize("value", NOT_TEXTS)
@pytest.mark.parametrize(
    ("score", "predictions", "place"),
    [(hallucer_score, hallucer_pairs, "temporal/0.basic"), (event_score, event_records, "entire/v1.qa.0")],
)
def test_both_published_scorers_name_the_place(
    score: Callable[[Any], Any], predictions: Callable[[Any], Any], place: str, value: Any
) -> None:
    with pytest.raises(ValueError, match="1 predictions cannot be scored") as error:
        score(predictions(value))
    assert f"{place}: the prediction {json.dumps(value)}" in str(error.value)


def test_both_published_scorers_read_a_number_as_its_digits() -> None:
    assert hallucer_score(hallucer_pairs(1))["temporal"]["basic_accuracy"] == 0
    assert event_score(event_records(1))["entire"]["binary_unmatched"] == 1
    assert event_score(event_records(None))["entire"]["binary_unmatched"] == 1


def test_an_empty_cell_of_a_table_is_not_the_text_nan(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out")), world)
    path = world / "out" / "temporal_policy.json"
    pairs = json.loads(path.read_text())
    pairs[1]["basic"]["predict"] = float("nan")
    path.write_text(json.dumps(pairs))
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"))
    with pytest.raises(ValueError, match=r"1 records cannot be read:\n.*dark\.mp4.*its prediction is NaN, no text"):
        run_test(again, world, videos=None)
    run_test(again, world, videos=None, allow_missing=True)
    assert results_of(world / "again")["about"]["recorded"]["unreadable"] == 1


def test_a_file_that_cannot_be_read_is_one_line_and_not_one_a_question(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out")), world, subsets=["temporal"])
    (world / "out" / "temporal_policy.json").write_text("<html>")
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"))
    with pytest.raises(ValueError, match=r"nothing in it was read: .*temporal_policy\.json is not JSON") as error:
        run_test(again, world, videos=None, subsets=["temporal"])
    assert "\n" not in str(error.value)


def test_a_long_list_is_cut_at_ten_with_a_count(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out")), world)
    path = world / "out" / "temporal_policy.json"
    pairs = json.loads(path.read_text())
    more = [{"basic": {"video": f"{place}.mp4", "question": "?", "predict": "Yes."}} for place in range(13)]
    path.write_text(json.dumps([*pairs, *more]))
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"))
    with pytest.raises(ValueError, match="13 answers are to questions that are not asked:") as error:
        run_test(again, world, videos=None)
    assert str(error.value).count(".mp4'") == 10
    assert str(error.value).endswith("... and 3 more")

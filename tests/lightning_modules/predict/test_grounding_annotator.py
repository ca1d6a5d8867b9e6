"""Rows get boxes, events and wrong answers, where these are sure enough; what became of each is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule

from benchmarks.toy.vista.annotation import TRUTH
from callbacks.writers.jsonl import JsonlWriter
from lightning_modules.annotators.base import Detection, FrameScorer, ObjectDetector
from lightning_modules.annotators.rules import RuleAnswers
from lightning_modules.annotators.toy import ToyDetector, ToyScorer
from lightning_modules.judges.base import Judge
from lightning_modules.judges.recorded import RecordedJudge
from lightning_modules.predict.grounding_annotator import GroundingAnnotator
from lightning_modules.predict.judged_answers import JudgedAnswers, parse_answer
from tests.support.answered_videos import answered_videos, outcomes, read, rewrite
from tests.support.predict_fakes import Source, predict


def annotated(folder: Path, data: LightningDataModule, **settings: Any) -> list[dict[str, Any]]:
    """The rows that a run writes."""
    predict(JsonlWriter(str(folder / "out.jsonl")), GroundingAnnotator(**settings), data)
    return read(folder / "out.jsonl")


def toys(**settings: Any) -> dict[str, Any]:
    return {"detector": ToyDetector(), "scorer": ToyScorer(), "wrong_answers": RuleAnswers(), **settings}


class Boxes(ObjectDetector):
    """A box in every frame, less sure from frame to frame; notes what it was asked."""

    name = "boxes"

    def __init__(self, *absent: str, surest: float = 1.0) -> None:
        self.absent = absent
        self.surest = surest
        self.asked: list[tuple[str, int]] = []

    def detect(self, frames: torch.Tensor, phrase: str) -> list[Detection | None]:
        self.asked.append((phrase, len(frames)))
        if phrase in self.absent:
            return [None] * len(frames)
        return [Detection(1, 2, 3, 4, self.surest - index / 10) for index in range(len(frames))]


class Scores(FrameScorer):
    """Given scores for the first text, 0 for others; notes the texts."""

    name = "scores"

    def __init__(self, *scores: float) -> None:
        self.scores = scores
        self.texts: list[str] = []

    def score(self, frames: torch.Tensor, texts: Any) -> torch.Tensor:
        self.texts += texts
        scores = torch.zeros(len(frames), len(texts))
        scores[:, 0] = torch.tensor(self.scores)[: len(frames)]
        return scores


def test_toy_rows_come_near_the_truth_and_say_how_sure_they_are(tmp_path: Path) -> None:
    rows = annotated(tmp_path, answered_videos(tmp_path, 4, batch_size=3), **toys(box_frames=16))
    for row, true in zip(rows, read(tmp_path / TRUTH), strict=True):
        assert (row["video"], row["question"], row["chosen"]) == (true["video"], true["question"], true["chosen"])
        assert row["event"] == true["event"]
        assert [box["time"] for box in row["boxes"]] == [box["time"] for box in true["boxes"]]
        assert row["rejected"].partition(", ")[2].rstrip(".") not in true["facts"]["statements"]
        facts = row["facts"]
        assert facts["object"] in row["chosen"]
        assert len(facts["boxes_confidence"]) == len(row["boxes"])
        assert all(0.3 <= value <= 1 for value in [*facts["boxes_confidence"], facts["event_confidence"]])
        assert facts["rejected_by"] in ("object", "color", "order", "direction")
        # The scorer does not see order, and sees the other facts.
        assert facts["rejected_confidence"] == 0.5 or facts["rejected_confidence"] > 0.9
    assert outcomes(tmp_path / "out.report.json")["event"] == {"kept": 4}


def test_what_a_row_has_is_kept_and_nothing_of_it_is_proposed(tmp_path: Path) -> None:
    data = answered_videos(tmp_path, 2)
    given = {"rejected": "Mine.", "event": [0.5, 1.0], "boxes": [{"x": 1, "y": 1, "width": 5, "height": 5}]}
    rewrite(tmp_path, {0: {**given, "source": "me", "facts": {"id": 7}}})
    rows = annotated(tmp_path, answered_videos(tmp_path), **toys())
    first = {name: rows[0][name] for name in (*given, "source", "facts")}
    assert first == {**given, "source": "me", "facts": {"id": 7}}
    assert outcomes(tmp_path / "out.report.json")["boxes"] == {"given": 1, "kept": 1}
    assert len(data.rows) == 2


def test_the_event_is_between_the_frames_that_fit(tmp_path: Path) -> None:
    """Of frames 0, 5, 10 and 15 at 8 a second the third fits: from (6 + 10) / 2 to (11 + 15) / 2."""
    scorer = Scores(0, 0, 1, 0)
    (row,) = annotated(tmp_path, answered_videos(tmp_path, 1, num_frames=4), scorer=scorer, wrong_answers=RuleAnswers())
    assert row["event"] == [1.0, 13 / 8]
    assert row["facts"]["event_confidence"] == 1
    assert scorer.texts[0] == row["chosen"].partition(", ")[2], "without yes or no, which no frame shows"


def test_a_short_answer_leaves_the_event_to_the_question(tmp_path: Path) -> None:
    answered_videos(tmp_path, 1)
    rewrite(tmp_path, {0: {"chosen": "Yes, it does.", "rejected": "No."}})
    scorer = Scores(*[0.0] * 16)
    (row,) = annotated(tmp_path, answered_videos(tmp_path), scorer=scorer)
    assert scorer.texts == [row["question"]]
    assert "event" not in row
    assert outcomes(tmp_path / "out.report.json")["event"] == {"below the threshold": 1}


def test_boxes_are_looked_for_within_the_event_in_so_many_frames(tmp_path: Path) -> None:
    answered_videos(tmp_path, 1)
    rewrite(tmp_path, {0: {"event": [0.5, 1.5], "rejected": "No."}})  # frames 4 to 11
    detector = Boxes()
    (row,) = annotated(tmp_path, answered_videos(tmp_path), detector=detector, box_frames=3, box_threshold=0.85)
    assert [count for _, count in detector.asked] == [3]
    assert row["boxes"] == [
        {"time": 0.5, "x": 1, "y": 2, "width": 3, "height": 4},
        {"time": 0.875, "x": 1, "y": 2, "width": 3, "height": 4},
    ], "the third is 0.8 sure"
    assert row["facts"]["boxes_confidence"] == [1.0, 0.9]


def test_objects_are_looked_for_in_turn_those_of_the_question_first(tmp_path: Path) -> None:
    answered_videos(tmp_path, 4)
    chosen = {"chosen": "The cat chases the dog.", "rejected": "No."}
    rewrite(tmp_path, {
        0: {"question": "Does the bird see the cat?", **chosen},
        1: {"question": "What happens?", **chosen, "object": "small cat"},
        2: {"question": "What happens?", "chosen": "He sleeps.", "rejected": "No."},
        3: {"question": "Where is the bird?", "chosen": "Gone.", "rejected": "No."},
    })  # fmt: skip
    detector = Boxes("bird")
    rows = annotated(tmp_path, answered_videos(tmp_path), detector=detector)
    assert [phrase for phrase, _ in detector.asked] == ["bird", "cat", "small cat", "bird"]
    assert [row.get("facts", {}).get("object") for row in rows] == ["cat", "small cat", None, None]
    assert all("object" not in row for row in rows), "no field of the documented format"
    counts = {"kept": 2, "no object named": 1, "object not found": 1}
    assert outcomes(tmp_path / "out.report.json")["boxes"] == counts


@pytest.mark.parametrize(
    ("threshold", "part"),
    [("box_threshold", "boxes"), ("event_threshold", "event"), ("rejected_threshold", "rejected")],
)
def test_a_threshold_decides_what_is_kept(tmp_path: Path, threshold: str, part: str) -> None:
    answered_videos(tmp_path, 1)
    scorer = Scores(0, *[1.0, 0.9] * 4, *[0.0] * 7)
    settings: dict[str, Any] = {"detector": Boxes(surest=0.9), "scorer": scorer, "wrong_answers": RuleAnswers()}
    (row,) = annotated(tmp_path, answered_videos(tmp_path), **settings)
    sure = {
        "boxes": max(row["facts"]["boxes_confidence"]),
        "event": row["facts"]["event_confidence"],
        "rejected": row["facts"]["rejected_confidence"],
    }[part]
    for value, kept in ((sure - 1e-3, True), (sure + 1e-3, False)):
        module = GroundingAnnotator(**settings, **{threshold: value})
        (written,) = module.predict_step(next(iter(answered_videos(tmp_path).predict_dataloader())), 0)
        assert written.outcomes[part].startswith("kept") is kept
        assert (written.row is not None) is (kept or part != "rejected")


def test_without_a_wrong_answer_a_row_is_left_out_and_says_why(tmp_path: Path) -> None:
    data = answered_videos(tmp_path, 3)
    rewrite(tmp_path, {0: {"chosen": "Yes."}})
    rows = annotated(tmp_path, answered_videos(tmp_path), wrong_answers=RuleAnswers())
    assert len(rows) == 2
    assert "rejected_confidence" not in rows[0]["facts"], "rules alone do not know"
    assert read(tmp_path / "out.left_out.jsonl") == [{"key": data.keys[0], "why": "no wrong answer: no rule fits"}]


def test_a_judge_gives_wrong_answers_and_is_asked_again_when_it_cannot_be_read(tmp_path: Path) -> None:
    data = answered_videos(tmp_path, 3)
    right = data.rows[2].content["chosen"]
    replies = [
        {"key": data.keys[0], "reply": 'Well: {"answer": "Yes, it does. ", "confidence": 0.9}'},
        {"key": data.keys[1], "reply": "I do not know."},
        {"key": data.keys[1], "attempt": 1, "reply": '{"answer": "A bird.", "confidence": 0.2}'},
        {"key": data.keys[2], "reply": "Hm."},
        {"key": data.keys[2], "attempt": 1, "reply": json.dumps({"answer": right, "confidence": 1})},
    ]
    (tmp_path / "replies.jsonl").write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    maker = JudgedAnswers(
        RecordedJudge(str(tmp_path / "replies.jsonl"), "looks-7"), replies=str(tmp_path / "log.jsonl")
    )
    rows = annotated(tmp_path, data, wrong_answers=maker)
    assert [row["rejected"] for row in rows] == ["Yes, it does."]
    assert rows[0]["facts"] == {"rejected_confidence": 0.9, "rejected_by": "judge"}
    counts = {"kept (judge)": 1, "below the threshold": 1, "unreadable reply": 1}
    assert outcomes(tmp_path / "out.report.json")["rejected"] == counts
    assert len(read(tmp_path / "log.jsonl")) == 5


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "A bird.",
        '{"answer": "A bird."}',
        '{"answer": " ", "confidence": 1}',
        '{"answer": "A", "confidence": 2}',
        '{"answer": "A", "confidence": true}',
        '{"answer": "A <video>", "confidence": 1}',
        '{"answer": "Right", "confidence": 1}',
    ],
)
def test_replies_that_are_no_wrong_answer(reply: str) -> None:
    assert parse_answer(reply, "Right") is None


def test_the_judge_sees_frames_of_the_event_alone(tmp_path: Path) -> None:
    asked = []

    class Asked(Judge):
        name = "asked"

        def ask(self, questions: Any) -> list[str]:
            asked.extend(questions)
            return ['{"answer": "A bird.", "confidence": 1}'] * len(questions)

    answered_videos(tmp_path, 1)
    rewrite(tmp_path, {0: {"event": [0.5, 1.5], "question": "Is {chosen} it?"}})
    data = answered_videos(tmp_path)
    annotated(tmp_path, data, wrong_answers=JudgedAnswers(Asked(), num_frames=2))
    (question,) = asked
    (batch,) = data.predict_dataloader() or list(answered_videos(tmp_path).predict_dataloader())
    frames = batch.videos[0].frames
    assert [picture.tolist() for picture in question.images] == [frames[4].tolist(), frames[11].tolist()]
    assert "Question: Is {chosen} it?\n" in question.text
    assert f"Right answer: {data.rows[0].content['chosen']}\n" in question.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to propose: give model.detector, model.scorer or model.wrong_answers"),
        ({"detector": ToyScorer()}, "model.detector is a ToyScorer; give a ObjectDetector, or null"),
        ({"wrong_answers": RecordedJudge("x")}, "model.wrong_answers is a RecordedJudge; give a WrongAnswers"),
        (toys(box_threshold=1.5), "from 0 to 1, not {'boxes': 1.5}"),
        (toys(event_threshold=-0.1), "from 0 to 1, not {'event': -0.1}"),
        (toys(rejected_threshold=float("nan")), "from 0 to 1, not {'rejected': nan}"),
        (toys(box_frames=0), "box_frames is 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroundingAnnotator(**settings)


def test_another_data_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is shown rows by AnsweredVideos, not by Source"):
        annotated(tmp_path, Source(["a"]), **toys())

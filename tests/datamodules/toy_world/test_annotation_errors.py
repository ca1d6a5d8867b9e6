"""Errors of annotation are as large as asked, and change nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from datamodules.prepare.toy import prepare_toy
from datamodules.shards.index import Index
from datamodules.toy_world.annotation_errors import AnnotationErrors
from datamodules.toy_world.render import draw_scene
from datamodules.toy_world.rows import preference_row
from datamodules.vista.samples import Box, PreferenceRow


def row_of(seed: int) -> PreferenceRow:
    rng = random.Random(seed)
    return preference_row(draw_scene(rng, prior=0.9), f"toy-{seed}", "detail", rng, 0.9)


def overlap(first: Box, second: Box) -> float:
    width = min(first.x + first.width, second.x + second.width) - max(first.x, second.x)
    height = min(first.y + first.height, second.y + second.height) - max(first.y, second.y)
    both = width * height
    return both / (first.width * first.height + second.width * second.height - both)


@pytest.mark.parametrize("iou", [0.4, 0.7])
def test_boxes_overlap_the_true_ones_as_asked_and_stay_in_the_frame(iou: float) -> None:
    for seed in range(20):
        row = row_of(seed)
        changed = AnnotationErrors(box_iou=iou).applied(row, random.Random(seed))
        assert [overlap(*boxes) for boxes in zip(row.boxes, changed.boxes, strict=True)] == pytest.approx([iou] * 8)
        assert changed.faults() == []
        assert (changed.event, changed.chosen) == (row.event, row.chosen)


def test_spans_move_towards_the_other_event() -> None:
    moved = {AnnotationErrors(event_shift=0.5).applied(row, random.Random(0)).event for row in map(row_of, range(20))}
    assert moved == {(0.5, 1.5)}


def test_answers_are_exchanged_in_the_share_of_rows() -> None:
    rows = [row_of(seed) for seed in range(300)]
    changed = [AnnotationErrors(wrong=0.2).applied(row, random.Random(row.key)) for row in rows]
    exchanged = [
        (new.chosen, new.rejected) == (old.rejected, old.chosen) for old, new in zip(rows, changed, strict=True)
    ]
    assert sum(exchanged) == pytest.approx(60, abs=20)
    kept = [new == old for old, new in zip(rows, changed, strict=True)]
    assert [not same for same in kept] == exchanged


def test_no_errors_change_nothing_and_videos_are_the_same_with_others(tmp_path: Path) -> None:
    assert AnnotationErrors().applied(row_of(3), random.Random(0)) == row_of(3)
    for name, errors in (("none", None), ("some", AnnotationErrors(wrong=1.0))):
        prepare_toy(str(tmp_path / name), num_videos=2, errors=errors)
    none, some = (Index.read(tmp_path / f"{name}.index.json") for name in ("none", "some"))
    assert none.fingerprint != some.fingerprint
    assert [entry.key for entry in none.entries] == [entry.key for entry in some.entries]


@pytest.mark.parametrize(
    ("errors", "message"),
    [({"box_iou": 0}, r"box_iou is 0"), ({"event_shift": -1}, "event_shift is -1"), ({"wrong": 1.2}, r"wrong is 1\.2")],
)
def test_impossible_errors_are_refused(errors: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnotationErrors(**errors)

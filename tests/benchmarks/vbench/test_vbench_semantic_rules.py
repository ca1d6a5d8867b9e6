"""The rules of VBench's semantic dimensions: the published numbers on made-up sights, and what is odd in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.vbench.semantic_rules import (
    box_relation,
    color,
    human_action,
    multiple_objects,
    object_class,
    scene,
    spatial_relationship,
    text_similarity,
)
from tests.support.goldens import golden

GOLDEN = golden("bench_vbench_semantic_rules")


@pytest.mark.parametrize("case", GOLDEN["object_class"], ids=lambda case: case["object"])
def test_objects_are_counted_as_published(case: dict[str, Any]) -> None:
    assert sum(object_class(case["frames"], case["object"])) == case["hits"]


@pytest.mark.parametrize("case", GOLDEN["multiple_objects"], ids=lambda case: case["objects"])
def test_frames_with_both_objects_are_counted_as_published(case: dict[str, Any]) -> None:
    assert sum(multiple_objects(case["frames"], case["objects"])) == case["hits"]


def test_one_object_is_not_two() -> None:
    with pytest.raises(ValueError, match="'dog' are not two objects"):
        multiple_objects([["dog"]], "dog")


@pytest.mark.parametrize("case", GOLDEN["human_action"], ids=lambda case: case["video"])
def test_actions_are_seen_as_published(case: dict[str, Any]) -> None:
    prompt = case["video"].removesuffix(".mp4")[:-2]
    assert human_action(case["probabilities"], prompt) is case["hit"]


@pytest.mark.parametrize("case", GOLDEN["color"], ids=lambda case: case["prompt"])
def test_colors_are_scored_as_published(case: dict[str, Any]) -> None:
    assert color(case["frames"], case["color"], case["prompt"]) == case["score"]


@pytest.mark.parametrize("case", GOLDEN["spatial_relationship"])
def test_relations_are_scored_as_published(case: dict[str, Any]) -> None:
    relation = case["wanted"]
    scores = spatial_relationship(case["frames"], relation["object_a"], relation["object_b"], relation["relationship"])
    assert scores == pytest.approx(case["scores"], abs=1e-15)


def test_sides_are_not_told_apart_and_relations_are() -> None:
    left, right, over = [0, 0, 10, 10], [20, 0, 30, 10], [5, 0, 15, 10]
    assert box_relation(left, right, "on the left of") == box_relation(right, left, "on the left of") == 1
    assert box_relation(left, right, "on the top of") == 0
    assert box_relation(left, [20, 20, 30, 30], "on the left of") == 0, "as far down as across"
    assert box_relation(left, over, "on the right of") == pytest.approx(0.3)  # a third overlaps
    with pytest.raises(ValueError, match="'beside' is none of"):
        box_relation(left, right, "beside")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="have no area"):
        box_relation([1, 1, 1, 1], [1, 1, 1, 1], "on the left of")


@pytest.mark.parametrize("case", GOLDEN["scene"], ids=lambda case: case["wanted"]["scene"])
def test_scenes_are_counted_as_published(case: dict[str, Any]) -> None:
    assert sum(scene(case["captions"], case["wanted"]["scene"])) == case["hits"]


def test_similarity_does_not_care_for_lengths() -> None:
    rows, text = [[3.0, 4.0], [0.0, 2.0], [-5.0, 0.0]], [1.0, 0.0]
    assert text_similarity(rows, text) == pytest.approx([0.6, 0, -1])
    assert text_similarity(torch.tensor(rows).half(), torch.tensor(text) * 7) == pytest.approx([0.6, 0, -1], abs=1e-3)

"""Segments and labels: the published cases, and what must hold for any length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.dense.segments import (
    agreed_label,
    decided_share,
    latent_segments,
    majority_label,
    num_segments,
    segment_frames,
)
from tests.support.goldens import golden

CASES = [case for case in golden("dense_5_mapping")["cases"] if case["segments_rule"] == "causal"]
LABELS = golden("dense_6_labels")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_mapping_is_the_published_one(case: dict[str, Any]) -> None:
    sizes = case["num_frames"], case["segment_frames"], case["temporal_ratio"]
    segments = latent_segments(*sizes)
    assert segments.dtype == torch.int64
    assert segments.tolist() == case["seg_of_latent"]
    assert num_segments(*sizes) == case["num_segments"]
    assert segments.bincount().tolist() == case["latents_per_segment"]


SIZES = st.builds(
    lambda ratio, latents, longer: (ratio * latents + 1, ratio + longer, ratio),
    st.integers(1, 9),
    st.integers(0, 60),
    st.integers(0, 40),
)


def majority_by_counting(num_frames: int, frames_per_segment: int, ratio: int) -> list[int]:
    """The rule spelled out: count each latent's frames in each segment, the extra last frame in the one before."""
    segments = max(-(-(num_frames - 1) // frames_per_segment), 1)
    majority = []
    for latent in range((num_frames - 1) // ratio + 1):
        frames = [0] if latent == 0 else range(ratio * (latent - 1) + 1, ratio * latent + 1)
        counts = [0] * segments
        for frame in frames:
            counts[min(frame // frames_per_segment, segments - 1)] += 1
        majority.append(counts.index(max(counts)))
    return majority


@settings(derandomize=True, deadline=None, max_examples=200)
@given(SIZES)
def test_latents_go_to_the_segment_that_holds_most_of_them(sizes: tuple[int, int, int]) -> None:
    segments = latent_segments(*sizes).tolist()
    assert segments == majority_by_counting(*sizes)
    assert sorted(set(segments)) == list(range(num_segments(*sizes))), "every label has a latent"
    frames = segment_frames(*sizes)
    assert len(frames) == num_segments(*sizes)
    assert [frame for segment in frames for frame in segment] == list(range(sizes[0]))


def test_a_last_segment_without_a_latent_joins_the_one_before() -> None:
    # Frames 15 and 16 would be a segment of their own, but the latent of frames 13 to 16 is half the earlier one's.
    assert latent_segments(17, 5, 4).tolist() == [0, 0, 1, 2, 2]
    assert num_segments(17, 5, 4) == 3
    assert segment_frames(17, 5, 4) == [range(5), range(5, 10), range(10, 17)]


def test_a_single_frame_is_one_segment() -> None:
    assert latent_segments(1, 16, 4).tolist() == [0]
    assert num_segments(1, 16, 4) == 1


@pytest.mark.parametrize("sizes", [(16, 8, 4), (82, 16, 4), (0, 8, 4), (17, 8, 0)])
def test_frames_that_the_autoencoder_would_drop_are_refused(sizes: tuple[int, int, int]) -> None:
    for function in (latent_segments, num_segments, segment_frames):
        with pytest.raises(ValueError, match=f"{sizes[0]} frames"):
            function(*sizes)


def test_a_segment_shorter_than_a_latent_is_refused() -> None:
    for function in (latent_segments, num_segments, segment_frames):
        with pytest.raises(ValueError, match="segment of 3 frames"):
            function(17, 3, 4)


@pytest.mark.parametrize("case", LABELS["consistency"], ids=lambda case: f"{case['order01']} {case['order10']}")
def test_two_orders_must_agree(case: dict[str, Any]) -> None:
    assert agreed_label(case["order01"], case["order10"]) == case["label"]


@pytest.mark.parametrize("case", LABELS["majority"], ids=lambda case: str(case["labels"]))
def test_majority_and_share_are_the_published_ones(case: dict[str, Any]) -> None:
    for labels in (case["labels"], torch.tensor(case["labels"]), torch.tensor(case["labels"], dtype=torch.int8)):
        assert majority_label(labels) == case["majority"]
        assert decided_share(labels) == case["non_tie_fraction"]
        assert (decided_share(labels) > 0.2) == case["kept_gt_20pct"]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([-1, 0, 1])))
def test_the_majority_does_not_care_for_order_ties_or_which_video_is_first(labels: list[int]) -> None:
    label = majority_label(labels)
    assert label in (-1, 0, 1)
    assert majority_label([*labels[::-1], 0]) == label
    assert majority_label([-label_of_segment for label_of_segment in labels]) == -label


def test_what_is_no_verdict_or_label_is_refused() -> None:
    with pytest.raises(ValueError, match="'First'"):
        agreed_label("tie", "First")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[2, 0.5\]"):
        majority_label([1, 2, 0.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no labels"):
        decided_share([])

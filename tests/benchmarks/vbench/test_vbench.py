"""VBench's rules: the published numbers, and what must hold for any frames and features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.vbench.rules import (
    DIMENSIONS,
    STATIC_SHARE,
    aggregate,
    consistency,
    flow_score,
    frame_interval,
    is_dynamic,
    is_static,
    temporal_flickering,
)
from tests.support.goldens import golden

AGGREGATE, CONSISTENCY, DYNAMIC, FLICKER, STATIC = (
    golden(f"bench_vbench_{name}")
    for name in ("aggregate", "consistency", "dynamic_degree", "temporal_flickering", "static_filter")
)
FRAMES: dict[str, Callable[..., Any]] = {
    "static": lambda t, y, x, c: (7 * y + 3 * x + 40 * c) % 256,
    "flicker": lambda t, y, x, c: (7 * y + 3 * x + 40 * c + (t % 2) * 20) % 256,
    "ramp": lambda t, y, x, c: np.clip(10 * t + y + x + c, 0, 255),
    "hash": lambda t, y, x, c: (t * 7919 + y * 104729 + x * 1299709 + c * 15485863) % 251,
    "shift": lambda t, y, x, c: 255 * (((x - 2 * t) // 4 + y // 4) % 2),
}


def frames_of(kind: str, *shape: int) -> np.ndarray:
    values = FRAMES[kind](*np.indices((*shape, 3)))
    return np.broadcast_to(values, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize("row", FLICKER["rows"], ids=lambda row: f"{row['kind']} {row['T']}")
def test_flickering_is_the_published_score(row: dict[str, Any]) -> None:
    frames = frames_of(row["kind"], row["T"], row["H"], row["W"])
    assert temporal_flickering(frames) == row["score"]
    assert temporal_flickering(frame for frame in frames) == row["score"]
    assert temporal_flickering(torch.from_numpy(frames)) == row["score"]


def test_flickering_does_not_care_for_channels_or_the_direction_of_time() -> None:
    frames = frames_of("hash", 5, 12, 16)
    assert temporal_flickering(frames[..., ::-1]) == pytest.approx(temporal_flickering(frames), abs=1e-7)
    assert temporal_flickering(frames[::-1]) == pytest.approx(temporal_flickering(frames), abs=1e-7)


def test_flickering_refuses_one_frame_and_another_scale() -> None:
    with pytest.raises(ValueError, match="at least two"):
        temporal_flickering(frames_of("static", 1, 4, 4))
    with pytest.raises(ValueError, match=r"uint8.*float32"):
        temporal_flickering(frames_of("static", 2, 4, 4) / np.float32(255))


@pytest.mark.parametrize("kind", ["subject", "background"])
def test_consistency_is_the_published_score(kind: str) -> None:
    features = CONSISTENCY["features"]
    scores = {name: consistency(torch.tensor(values)) for name, values in features.items()}
    assert scores == {video["video_path"]: video["video_results"] for video in CONSISTENCY[kind]["videos"]}
    if kind == "subject":
        assert np.mean(list(scores.values())) == CONSISTENCY[kind]["dataset_multi_gpu"]


def test_consistency_knows_equal_and_opposite_frames() -> None:
    feature = torch.tensor([[3.0, 4.0]])
    assert consistency(feature.repeat(4, 1)) == pytest.approx(1)
    assert consistency(torch.cat([feature, -feature])) == 0, "a negative cosine counts as none"
    # Back to the first frame: like the first, unlike the one before.
    assert consistency(torch.cat([feature, -feature, feature])) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="at least two"):
        consistency(feature)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 2**20), st.floats(0.1, 100))
def test_consistency_does_not_care_for_the_length_of_features(seed: int, scale: float) -> None:
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert 0 <= consistency(features) <= 1
    assert consistency(features * scale) == pytest.approx(consistency(features), abs=1e-12)
    assert consistency(features.bfloat16()) == pytest.approx(consistency(features), abs=0.02)


@pytest.mark.parametrize("row", DYNAMIC["get_score"], ids=lambda row: f"{row['H']} {row['W']}")
def test_flow_score_is_the_published_one(row: dict[str, Any]) -> None:
    flow = np.random.default_rng(row["seed"]).standard_normal((1, 2, row["H"], row["W"])) * 5
    horizontal, vertical = flow.astype(np.float32)[0]
    magnitude = np.sqrt(np.square(horizontal) + np.square(vertical))
    assert int(0.05 * magnitude.size) == row["k"]
    assert flow_score(magnitude) == row["score"]
    assert flow_score(torch.from_numpy(magnitude)) == row["score"]


def test_flow_score_takes_five_in_a_hundred() -> None:
    magnitude = np.zeros((10, 10))
    magnitude[3, :7] = [1, 2, 3, 4, 5, 6, 7]
    assert flow_score(magnitude) == 5
    with pytest.raises(ValueError, match="at least 20"):
        flow_score(np.ones((3, 6)))


@pytest.mark.parametrize("case", DYNAMIC["check_move"], ids=lambda case: case["name"])
def test_dynamic_is_the_published_rule(case: dict[str, Any]) -> None:
    assert is_dynamic(case["pair_scores"], case["h"], case["w"]) is case["moves"]


@pytest.mark.parametrize("case", DYNAMIC["params"], ids=lambda case: f"{case['h']} {case['w']} {case['count']}")
def test_thresholds_are_the_published_ones(case: dict[str, Any]) -> None:
    pairs, height, width = case["count"] - 1, case["h"], case["w"]
    if pairs == 0:
        assert not is_dynamic([], height, width)
        return

    def moves(fast: int, magnitude: float) -> bool:
        return is_dynamic([magnitude] * fast + [0.0] * (pairs - fast), height, width)

    above = np.nextafter(case["thres"], np.inf)
    assert moves(case["count_num"], above)
    if case["count_num"]:
        assert not moves(case["count_num"] - 1, above)
        assert not moves(pairs, case["thres"])


@pytest.mark.parametrize("case", DYNAMIC["fps_subsample"], ids=lambda case: f"{case['fps']} fps")
def test_frames_are_taken_at_the_published_interval(case: dict[str, Any]) -> None:
    assert frame_interval(case["fps"]) == case["interval"]
    assert list(range(0, case["n"], frame_interval(case["fps"]))) == case["idx"]


@pytest.mark.parametrize("row", STATIC["get_score"], ids=lambda row: f"{row['H']} {row['W']}")
def test_the_static_filters_flow_score_is_the_published_one(row: dict[str, Any]) -> None:
    flow = np.random.default_rng(row["seed"]).standard_normal((1, 2, row["H"], row["W"])) * 5
    horizontal, vertical = flow.astype(np.float32)[0]
    assert flow_score(np.sqrt(np.square(horizontal) + np.square(vertical)), STATIC_SHARE) == row["score"]
    with pytest.raises(ValueError, match="2% of 49 pixels are no pixel: flow needs at least 50"):
        flow_score(np.ones((7, 7)), STATIC_SHARE)


def test_static_is_the_published_rule() -> None:
    cases = STATIC["check_static"]
    static = [is_static(case["pair_scores"], case["end_scores"], case["h"], case["w"]) for case in cases]
    assert static == [case["static"] for case in cases]


@pytest.mark.parametrize("spelling", [str, lambda name: name.replace(" ", "_")], ids=["spaces", "underscores"])
@pytest.mark.parametrize("case", AGGREGATE["cases"].values(), ids=AGGREGATE["cases"])
def test_totals_are_the_published_ones(case: dict[str, Any], spelling: Callable[[str], str]) -> None:
    totals = aggregate({spelling(name): value for name, value in case["input"].items()})
    assert {name: totals[name] for name in ("quality", "semantic", "total")} == {
        name: case[name] for name in ("quality", "semantic", "total")
    }
    assert totals["missing"] == [name.replace(" ", "_") for name in case["filled_with_zero"]]
    assert totals["weighted"] == {
        name.replace(" ", "_"): case["normalized_times_weight"][name] for name in case["input"]
    }, "what is missing is named and has no score of its own"


def test_dimensions_are_the_published_sixteen() -> None:
    assert {name.replace("_", " "): dimension.weight for name, dimension in DIMENSIONS.items()} == AGGREGATE[
        "dim_weight"
    ]
    assert {
        name.replace("_", " "): {"Min": dimension.low, "Max": dimension.high} for name, dimension in DIMENSIONS.items()
    } == AGGREGATE["normalize"]
    for group in ("quality", "semantic"):
        names = [name.replace("_", " ") for name, dimension in DIMENSIONS.items() if dimension.group == group]
        assert names == AGGREGATE[f"{group}_list"]


def test_bounds_are_not_clipped() -> None:
    best = aggregate({name: dimension.high for name, dimension in DIMENSIONS.items()})
    assert best["total"] == pytest.approx(1)
    assert aggregate({name: dimension.low for name, dimension in DIMENSIONS.items()})["total"] == pytest.approx(0)
    assert aggregate({"motion_smoothness": 1.0})["weighted"]["motion_smoothness"] > 1
    assert aggregate({"motion_smoothness": 0.0})["weighted"]["motion_smoothness"] < 0


def test_a_name_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="flicker are no dimensions"):
        aggregate({"flicker": 0.5})

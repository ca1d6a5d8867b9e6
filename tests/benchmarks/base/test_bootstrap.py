import json

import numpy as np
import pytest

from benchmarks.base.bootstrap import Pool, Units, intervals, paired_intervals, recorded_units


def test_an_interval_of_a_share_is_that_of_the_binomial() -> None:
    hits = np.array([[1.0]] * 300 + [[0.0]] * 100)
    bounds = intervals({"a": hits}, {"a": np.ones_like(hits)}, ["accuracy"], {}, seed=1, resamples=4000)
    low, high = bounds["a/accuracy"]
    error = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - error, abs=0.004)
    assert high == pytest.approx(0.75 + error, abs=0.004)


def test_pools_are_means_of_parts_or_one_large_part() -> None:
    hits = {"sure": np.ones((10, 1)), "never": np.zeros((30, 1))}
    counts = {part: np.ones_like(values) for part, values in hits.items()}
    pools = {"mean": Pool(["sure", "never"], "mean"), "sum": Pool(["sure", "never"], "sum")}
    bounds = intervals(hits, counts, ["x"], pools)
    assert bounds["mean/x"] == [0.5, 0.5]
    assert bounds["sum/x"] == [0.25, 0.25]


def test_units_are_drawn_whole() -> None:
    """A unit of many questions counts by their number: with one such unit the share swings from 0 to 1."""
    hits, counts = np.array([[100.0], [0.0]]), np.array([[100.0], [100.0]])
    assert intervals({"a": hits}, {"a": counts}, ["x"], {})["a/x"] == [0, 1]


def test_the_seed_decides_and_a_part_does_not_depend_on_the_others() -> None:
    generator = np.random.default_rng(0)
    hits = {part: generator.integers(0, 2, size=(50, 2)) for part in "abc"}
    counts = {part: np.ones((50, 2)) for part in "abc"}
    every = intervals(hits, counts, ["x", "y"], {}, seed=3)
    assert every == intervals(hits, counts, ["x", "y"], {}, seed=3)
    assert every != intervals(hits, counts, ["x", "y"], {}, seed=4)
    alone = intervals({"b": hits["b"]}, {"b": counts["b"]}, ["x", "y"], {}, seed=3)
    assert alone == {name: ends for name, ends in every.items() if name.startswith("b/")}


def test_parts_of_one_size_are_drawn_independently() -> None:
    """Were they drawn alike, the mean of a part and its opposite would not vary at all."""
    hits = {"a": np.arange(40)[:, None] % 2, "b": (np.arange(40)[:, None] + 1) % 2}
    counts = {part: np.ones((40, 1)) for part in hits}
    low, high = intervals(hits, counts, ["x"], {"all": Pool(["a", "b"], "mean")})["all/x"]
    assert high - low > 0.1


def test_a_score_that_was_never_counted_has_no_interval() -> None:
    bounds = intervals({"a": np.zeros((5, 2))}, {"a": np.array([[1.0, 0.0]] * 5)}, ["x", "y"], {})
    assert set(bounds) == {"a/x"}


def test_parts_with_the_same_units_are_drawn_alike() -> None:
    """Opposites then cancel out exactly; drawn apart they do not."""
    hits = {"a": np.arange(40)[:, None] % 2, "b": (np.arange(40)[:, None] + 1) % 2}
    counts = {part: np.ones((40, 1)) for part in hits}
    pools = {"all": Pool(["a", "b"], "mean")}
    bounds = intervals(hits, counts, ["x"], pools, units={"a": "videos", "b": "videos"})
    assert bounds["all/x"] == pytest.approx([0.5, 0.5])


def units(hits: np.ndarray) -> Units:
    """Of one part with one score, as a run's file brings them back."""
    with recorded_units() as recorded:
        intervals({"a": hits}, {"a": np.ones_like(hits)}, ["x"], {"all": Pool(["a"], "mean")})
    return Units.from_json(json.loads(json.dumps(recorded[0].to_json())))


def test_a_difference_is_drawn_from_the_same_units() -> None:
    """Two questions of 400 more are right: the pairs say so, though each run's own interval is ten times as wide."""
    base = (np.arange(400)[:, None] % 2).astype(float)
    tuned = base.copy()
    tuned[[0, 2]] = 1.0
    bounds = paired_intervals(units(base), units(tuned), seed=1, resamples=4000)
    low, high = bounds["a/x"]
    error = 1.96 * np.sqrt(0.005 * 0.995 / 400)
    assert low == pytest.approx(max(0.005 - error, 0), abs=0.003)
    assert high == pytest.approx(0.005 + error, abs=0.003)
    assert bounds["all/x"] == bounds["a/x"]
    assert paired_intervals(units(base), units(base)) == {"a/x": [0, 0], "all/x": [0, 0]}
    with pytest.raises(ValueError, match="not scored on the same units"):
        paired_intervals(units(base), units(tuned[:-1]))

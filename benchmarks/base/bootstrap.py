"""Percentile bootstrap intervals: how far a headline number depends on the choice of questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
RESAMPLES = 1000

#: Score's address, "PART/NAME" -> its interval's ends.
Intervals = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Pool:
    """Number over several parts.

    Attributes:
        members: the parts.
        kind: "mean" = the unweighted mean of the parts' scores; "sum" = as if the parts were one.
    """

    members: Sequence[str]
    kind: Literal["mean", "sum"]


@dataclass(frozen=True, slots=True)
class Units:
    """Sample that intervals are drawn from: the contribution of every unit (pair, video, prompt) to every score.

    Kept beside the results, so that the difference of two runs on the same units has an interval as well.

    Attributes:
        hits: part -> (units, names) a unit's contribution to each score.
        counts: part -> (units, names) what it counts in the denominator.
        names: of the scores.
        pools: name -> the parts that it is made of.
        draws: part -> a text that identifies its units; parts with the same text are drawn alike.
    """

    hits: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.float64]]
    names: Sequence[str]
    pools: Mapping[str, Pool]
    draws: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """In plain types."""
        return {
            "names": list(self.names),
            "hits": {part: rows.tolist() for part, rows in self.hits.items()},
            "counts": {part: rows.tolist() for part, rows in self.counts.items()},
            "pools": {name: {"members": list(pool.members), "kind": pool.kind} for name, pool in self.pools.items()},
            "draws": dict(self.draws),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Units:
        """As `to_json` wrote it."""
        arrays = [{part: np.array(rows, np.float64) for part, rows in content[name].items()} for name in _ARRAYS]
        pools = {name: Pool(pool["members"], pool["kind"]) for name, pool in content["pools"].items()}
        return cls(arrays[0], arrays[1], content["names"], pools, content["draws"])

    def drawn(self, seed: int, resamples: int) -> dict[str, NDArray[np.float64]]:
        """Address of every score -> its value in each draw; draws depend on the seed and the number of units alone."""
        # Seeded by the text and not by the place: a part's draws do not depend on which other parts there are.
        sums = {
            part: _draws(hits, self.counts[part], [seed, crc32(self.draws.get(part, part).encode())], resamples)
            for part, hits in self.hits.items()
        }
        shares = {part: _ratio(*hits_and_counts) for part, hits_and_counts in sums.items()}
        for name, pool in self.pools.items():
            if pool.kind == "mean":
                # Over parts, draw by draw: the interval is the pool's own, no mean of the parts' intervals.
                shares[name] = np.mean([shares[part] for part in pool.members], axis=0)
            else:
                shares[name] = _ratio(*np.sum([sums[part] for part in pool.members], axis=0))
        return {
            f"{part}/{name}": share[:, column]
            for part, share in shares.items()
            for column, name in enumerate(self.names)
        }


_ARRAYS = ("hits", "counts")
#: List to which `intervals` adds its units while `recorded_units` is entered; None = not entered.
_RECORDED: ContextVar[list[Units] | None] = ContextVar("recorded_units", default=None)


@contextmanager
def recorded_units() -> Iterator[list[Units]]:
    """While it is entered, the units of all calls of `intervals` are added to the list that it yields."""
    units: list[Units] = []
    token = _RECORDED.set(units)
    try:
        yield units
    finally:
        _RECORDED.reset(token)


def intervals(
    hits: Mapping[str, ArrayLike],
    counts: Mapping[str, ArrayLike],
    names: Sequence[str],
    pools: Mapping[str, Pool],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    units: Mapping[str, str] | None = None,
) -> Intervals:
    """Intervals of hits / counts for every part and pool.

    The units (pairs, videos) of each part are resampled with replacement, as many as there are, and every number is
    computed from each draw; its interval is from one quantile of these to the other.

    Args:
        hits: part -> (units, len(names)) a unit's contribution to each score.
        counts: part -> (units, len(names)) what it counts in the denominator.
        names: of the scores.
        pools: name -> the parts that it is made of.
        seed: of the draws; a part's draws do not depend on which other parts there are.
        resamples: how many draws.
        level: the share of draws within the interval.
        units: part -> a text that identifies its units. Parts with the same units in the same order are drawn alike,
            because a hard unit is hard in all of them. None = every part has its own.

    Returns:
        "PART/NAME" -> [low, high], also for pools; a score whose denominator is 0 in every draw is left out.
    """
    arrays = [{part: np.asarray(rows, np.float64) for part, rows in parts.items()} for parts in (hits, counts)]
    sample = Units(arrays[0], arrays[1], names, pools, units or {})
    if (recorded := _RECORDED.get()) is not None:
        recorded.append(sample)
    return _ends(sample.drawn(seed, resamples), level)


def paired_intervals(
    first: Units, second: Units, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Intervals:
    """Intervals of the second run's scores minus the first's on the same units in the same order: a paired bootstrap.

    Each draw takes the same units from both runs, so that how hard a unit is cancels out.

    Raises:
        ValueError: the runs have other parts, scores or numbers of units.
    """
    shapes = [{part: rows.shape for part, rows in units.hits.items()} for units in (first, second)]
    # Other numbers of units would be drawn differently, and the pairs would not belong together.
    if shapes[0] != shapes[1] or list(first.names) != list(second.names) or dict(first.pools) != dict(second.pools):
        raise ValueError("the two runs were not scored on the same units")
    before, after = first.drawn(seed, resamples), second.drawn(seed, resamples)
    return _ends({address: after[address] - share for address, share in before.items()}, level)


def _ends(drawn: Mapping[str, NDArray[np.float64]], level: float) -> Intervals:
    """The quantiles of each score's draws; one that is nan in every draw is left out."""
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    counted = {address: share[~np.isnan(share)] for address, share in drawn.items()}
    return {
        address: [float(end) for end in np.quantile(share, quantiles)]
        for address, share in counted.items()
        if len(share)
    }


def _draws(hits: ArrayLike, counts: ArrayLike, seed: Sequence[int], resamples: int) -> NDArray[np.float64]:
    """(2, resamples, scores) sums of hits and counts in each draw."""
    contributions = np.stack([np.asarray(hits, np.float64), np.asarray(counts, np.float64)])
    units = contributions.shape[1]
    generator = np.random.default_rng(seed)
    # One draw at a time: all at once would be resamples x units numbers.
    drawn = [
        np.bincount(generator.integers(units, size=units), minlength=units).astype(np.float64) @ contributions
        for _ in range(resamples)
    ]
    return np.stack(drawn, axis=1)


def _ratio(hits: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hits / counts, nan where nothing was counted."""
    return np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)

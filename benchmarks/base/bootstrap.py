"""How far a headline number could be off by the choice of questions: percentile bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
RESAMPLES = 1000

#: Score's address, "PART/NAME" -> its interval's ends.
Intervals = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Pool:
    """A number over several parts.

    Attributes:
        members: the parts.
        kind: "mean" = the unweighted mean of the parts' scores; "sum" = as if the parts were one.
    """

    members: Sequence[str]
    kind: Literal["mean", "sum"]


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

    The units (pairs, videos) of each part are drawn anew with replacement, as many as there are, and every number is
    computed from each draw; what lies between the quantiles is its interval.

    Args:
        hits: part -> (units, len(names)) how much of each score a unit brings.
        counts: part -> (units, len(names)) what it counts in the denominator.
        names: of the scores.
        pools: name -> which parts it is made of.
        seed: of the draws; a part's draws do not depend on which other parts there are.
        resamples: how many draws.
        level: the share of draws that lies within.
        units: part -> what its units are, a text. Parts with the same units in the same order are drawn alike: what is
            hard about a unit shows in all of them. None = every part has its own.

    Returns:
        "PART/NAME" -> [low, high], also for pools; a score whose denominator is 0 in every draw is left out.
    """
    names_of_draws = {part: (units or {}).get(part, part) for part in hits}
    drawn = {
        part: _draws(hits[part], counts[part], [seed, crc32(name.encode())], resamples)
        for part, name in names_of_draws.items()
    }
    shares = {part: _ratio(*sums) for part, sums in drawn.items()}
    for name, pool in pools.items():
        if pool.kind == "mean":
            shares[name] = np.mean([shares[part] for part in pool.members], axis=0)
        else:
            shares[name] = _ratio(*np.sum([drawn[part] for part in pool.members], axis=0))
    ends = [(1 - level) / 2, (1 + level) / 2]
    found: Intervals = {}
    for part, share in shares.items():
        for number, name in enumerate(names):
            known = share[~np.isnan(share[:, number]), number]
            if len(known):
                found[f"{part}/{name}"] = [float(end) for end in np.quantile(known, ends)]
    return found


def _draws(hits: ArrayLike, counts: ArrayLike, seed: Sequence[int], resamples: int) -> NDArray[np.float64]:
    """(2, resamples, scores) sums of hits and counts in each draw."""
    both = np.stack([np.asarray(hits, np.float64), np.asarray(counts, np.float64)])
    units = both.shape[1]
    generator = np.random.default_rng(seed)
    # One draw at a time: all at once would be resamples x units numbers.
    drawn = [
        np.bincount(generator.integers(units, size=units), minlength=units).astype(np.float64) @ both
        for _ in range(resamples)
    ]
    return np.stack(drawn, axis=1)


def _ratio(hits: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hits / counts, nan where nothing was counted."""
    return np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)

"""VideoReward (arXiv 2501.13918): how often scores of two videos agree with people's preferences.

Both published accuracies: without the pairs that people call equal, and with them, where scores closer than a threshold
count as equal and the threshold is the best one for these very pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ratings.pairs import PairRatings, RatedPair

#: Visual quality, motion quality, text alignment.
DIMENSIONS = ("VQ", "MQ", "TA")
#: People's choices between A and B as numbers.
LABELS: Mapping[str, int] = {"A": 1, "B": -1, "same": 0}


def accuracy_without_ties(labels: Sequence[int], margins: Sequence[float | None]) -> float | None:
    """The share of pairs whose scores order them as people do, among those that people do not call equal.

    Args:
        labels: 1 where people prefer A, -1 where B, 0 where neither.
        margins: score of A minus score of B; None where a score is not known, which is wrong, as is 0.

    Returns:
        In [0, 1]; None where people call all pairs equal.
    """
    right = [label * (margin or 0) > 0 for label, margin in zip(labels, margins, strict=True) if label]
    return sum(right) / len(right) if right else None


def accuracy_with_ties(labels: Sequence[int], margins: Sequence[float | None]) -> tuple[float, float]:
    """The share of pairs on which scores and people agree, equal pairs included, at the best threshold.

    The threshold is tried at every margin in turn, the smallest first, so that at least one pair counts as equal; the
    best share counts. Where margins are equal this depends on the pairs' order, as in the published script.

    Args:
        labels: as in `accuracy_without_ties`.
        margins: likewise; unknown ones are wrong at every threshold.

    Returns:
        The share in [0, 1], and the threshold.

    Raises:
        ValueError: no pairs.
    """
    if not labels:
        raise ValueError("no pairs to compare")
    known = [(label, margin) for label, margin in zip(labels, margins, strict=True) if margin is not None]
    if not known:
        return 0.0, 0.0
    ordered = sorted(known, key=lambda label_and_margin: abs(label_and_margin[1]))
    # At each threshold: ties among the pairs up to it, and pairs in the right order beyond it.
    equal = np.cumsum([label == 0 for label, _ in ordered])
    right = np.array([label * margin > 0 for label, margin in ordered])
    shares: NDArray[np.float64] = (equal + right.sum() - np.cumsum(right)) / len(labels)
    best = int(np.argmax(shares))
    return float(shares[best]), abs(ordered[best][1])


class VideoReward(PairRatings):
    """Benchmark of a judge's scores of visual quality, motion quality and text alignment, and of their sum.

    Into `output` go `accuracy.json` (the published format), `pairs_NAME.json`, `results.json`, `details.json` and
    `answers.jsonl`. A reply is JSON with a number for VQ, MQ and TA; the sum is for people's choices in a column
    "Overall" or "ALL".

    Args:
        judge: scores the videos; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded scores: a table with `path` and `reward_VQ`, `reward_MQ`, `reward_TA` (what VideoAlign's
            script writes as `out_single.csv`), or the `answers.jsonl` of another run; null with `judge`.
    """

    title = "VideoReward"
    protocol = "VideoAlign 219ab9db: accuracy with ties (threshold tuned on the pairs) and without"
    logged = {  # noqa: RUF012
        f"{name}_{kind}": f"{name}/accuracy_{kind}"
        for name in (*DIMENSIONS, "Overall", "ALL")
        for kind in ("with_ties", "without_ties")
    }
    scored = DIMENSIONS

    @staticmethod
    def score(pairs: Sequence[RatedPair]) -> dict[str, Any]:
        """Dimension -> "accuracy_with_ties", "threshold", "accuracy_without_ties", "pairs", "ties", "unparsed"."""
        results = {}
        for dimension in pairs[0].preferred:
            labels, margins = _columns(pairs, dimension)
            share, threshold = accuracy_with_ties(labels, margins)
            results[dimension] = {
                "accuracy_with_ties": share,
                "threshold": threshold,
                "accuracy_without_ties": accuracy_without_ties(labels, margins),
                "pairs": len(pairs),
                "ties": labels.count(0),
                "unparsed": margins.count(None),
            }
        return results

    @staticmethod
    def counted(pairs: Sequence[RatedPair]) -> dict[str, tuple[list[list[float]], list[list[float]]]]:
        """Agreement of each pair at the threshold that is best for all of them."""
        counted = {}
        for dimension in pairs[0].preferred:
            labels, margins = _columns(pairs, dimension)
            threshold = accuracy_with_ties(labels, margins)[1]
            hits, counts = [], []
            for label, margin in zip(labels, margins, strict=True):
                right = margin is not None and label * margin > 0
                # Below the threshold the scores call the pair equal, which is right only where people do.
                close = margin is not None and abs(margin) <= threshold
                hits.append([float(label == 0 if close else right), float(right)])
                counts.append([1.0, float(label != 0)])
            counted[dimension] = hits, counts
        return counted

    #: Names of what `counted` counts.
    counted_names = ("accuracy_with_ties", "accuracy_without_ties")

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The file of all pairs, and the published file."""
        results = self.score(self.pairs_of(predictions))
        published = {
            f"{name} Accuracy": {
                "with_ties": scores["accuracy_with_ties"],
                "without_ties": scores["accuracy_without_ties"],
            }
            for name, scores in results.items()
        }
        return {**super().files(predictions), "accuracy.json": published}


def _columns(pairs: Sequence[RatedPair], dimension: str) -> tuple[list[int], list[float | None]]:
    """People's labels and the scores' margins; of a dimension that is not scored, the margin of the sum."""
    names = [dimension] if dimension in DIMENSIONS else list(DIMENSIONS)
    margins = [
        None
        if pair.first is None or pair.second is None
        else sum(pair.first[name] - pair.second[name] for name in names)
        for pair in pairs
    ]
    return [LABELS[pair.preferred[dimension]] for pair in pairs], margins

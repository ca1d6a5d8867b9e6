"""VideoScore (arXiv 2406.15252): five scores of a video, 1 to 4, and how often they agree with a person's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ratings.pairs import PairRatings, RatedPair, Scores

#: In the order in which the model gives them.
ASPECTS = (
    "visual quality",
    "temporal consistency",
    "dynamic degree",
    "text-to-video alignment",
    "factual consistency",
)
#: Scores closer than this are a tie.
TIE_MARGIN = 0.5
#: People's choices as preferences for the left and the right video.
_PREFERENCES: Mapping[str, tuple[float, float]] = {"A": (1.0, 0.0), "B": (0.0, 1.0), "same": (0.5, 0.5)}


def overall(aspects: Sequence[float]) -> float:
    """One score of a video: the mean of its five.

    Raises:
        ValueError: there are not five.
    """
    if len(aspects) != len(ASPECTS):
        raise ValueError(f"{len(aspects)} scores for the {len(ASPECTS)} aspects {', '.join(ASPECTS)}")
    return sum(aspects) / len(ASPECTS)


def agrees(left: float, right: float, left_preference: float, right_preference: float) -> bool:
    """Whether two scores order a pair as a person did.

    Args:
        left: score of the left video.
        right: score of the right one.
        left_preference: 1 where the person prefers the left video, 0 where not, 0.5 for a tie.
        right_preference: likewise.

    Returns:
        For a tie, whether the scores differ by less than 0.5; otherwise whether the preferred one is larger.
    """
    if left_preference == right_preference:
        return abs(left - right) < TIE_MARGIN
    return left > right if left_preference > right_preference else left < right


class VideoScore(PairRatings):
    """Benchmark of a judge's five scores, and of their mean, by people's choices.

    Into `output` go `pairs_NAME.json`, `results.json`, `details.json` and `answers.jsonl`. A reply is a JSON list of
    five numbers in the order of `ASPECTS` (what VideoScore's own scripts write as "ans"), or an object with the
    aspects' names. The data module reads one column of people's choices.

    Args:
        judge: scores the videos; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded scores: a table with `path` and a column for each aspect, or the `answers.jsonl` of
            another run; null with `judge`.
    """

    title = "VideoScore"
    protocol = "VideoScore 8e449734: strict order, a tie within 0.5; overall = mean of five"
    logged = {"accuracy": "overall/accuracy", "unparsed": "overall/unparsed"}  # noqa: RUF012
    scored = ASPECTS
    counted_names = ("accuracy",)

    def setup(self, stage: str) -> None:
        """Check the table, then what all benchmarks check.

        Raises:
            ValueError: it is read for several dimensions.
        """
        if len(self.questions.dimensions) != 1:
            raise ValueError(f"VideoScore is about one choice a pair; data.dimensions are {self.questions.dimensions}")
        super().setup(stage)

    @staticmethod
    def score(pairs: Sequence[RatedPair]) -> dict[str, Any]:
        """Aspect and "overall" -> "accuracy" (a pair with a reply that cannot be read is wrong), "pairs", "unparsed".

        Every aspect is compared with the same choice. The published script counts an aspect only where the overall is
        right too; here each is counted by itself.
        """
        unparsed = sum(pair.first is None or pair.second is None for pair in pairs)
        return {
            name: {"accuracy": sum(hits) / len(pairs), "pairs": len(pairs), "unparsed": unparsed}
            for name, hits in _hits(pairs).items()
        }

    @staticmethod
    def counted(pairs: Sequence[RatedPair]) -> dict[str, tuple[list[list[float]], list[list[float]]]]:
        """Agreement of each pair."""
        return {name: ([[float(hit)] for hit in hits], [[1.0]] * len(hits)) for name, hits in _hits(pairs).items()}


def _hits(pairs: Sequence[RatedPair]) -> dict[str, list[bool]]:
    """Aspect, and "overall" -> whether it agrees, for each pair."""
    hits_of: dict[str, list[bool]] = {name: [] for name in ("overall", *ASPECTS)}
    for pair in pairs:
        (choice,) = pair.preferred.values()
        preferences = _PREFERENCES[choice]
        for name, hits in hits_of.items():
            if pair.first is None or pair.second is None:
                hits.append(False)
            else:
                hits.append(agrees(_score(pair.first, name), _score(pair.second, name), *preferences))
    return hits_of


def _score(scores: Scores, name: str) -> float:
    return overall([scores[aspect] for aspect in ASPECTS]) if name == "overall" else scores[name]

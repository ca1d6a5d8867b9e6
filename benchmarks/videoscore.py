"""VideoScore (arXiv 2406.15252): five scores of a video, 1 to 4, and how often they agree with a person's choice."""

from __future__ import annotations

from collections.abc import Sequence

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


def pairwise_accuracy(rows: Sequence[tuple[float, float, float, float]]) -> float:
    """The share of pairs on which `agrees` holds, in [0, 1].

    Args:
        rows: `agrees`' arguments for each pair.

    Raises:
        ValueError: no pairs.
    """
    if not rows:
        raise ValueError("no pairs to compare")
    return sum(agrees(*row) for row in rows) / len(rows)

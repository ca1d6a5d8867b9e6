"""VisionReward (arXiv 2412.21059) for video: yes-or-no questions about quality, as one score or as dimensions.

A question counts +1 for the answer "yes", in exactly these letters, and -1 for anything else. The score is that of 29
selected questions with learned weights. The dimensions are those of all 64, unweighted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

#: Learned weights of the selected questions, as published with the model (Apache-2.0).
WEIGHTS = (
    0.9543901856422174, 0.25239747290239256, 1.141818673357406, 0.03495652038170829, 0.025237463294006605,
    0.12600844108184325, 0.03221505988621183, 0.16286819641189937, 0.21673935360893115, 0.01970324496671629,
    0.13604019362894557, 0.09647134683834487, 0.15490927135496332, 0.1294164598219855, 0.09891696198970226,
    0.18839328668539077, 0.1844335421380767, 0.2635526157239052, 0.11168980468489233, 0.05173789659242723,
    0.02562797122879315, 0.4389890596048526, 0.26857694964769424, 0.42925171836383774, 0.00846154228462919,
    0.12757277121689847, 0.05798205026065391, 0.1446334304609205, 0.39418111694677266,
)  # fmt: skip
#: The questions of the score among the 64, counted from 1.
SELECTED = (
    1, 2, 4, 5, 6, 10, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 27, 32, 34, 36, 38, 44, 50, 52, 53, 54, 56, 60,
)  # fmt: skip
NUM_QUESTIONS = 64
#: The questions of each dimension, counted from 1 (the paper's tables 17 and 18).
DIMENSIONS: Mapping[str, tuple[int, ...]] = {
    "Alignment": (*range(1, 5),),
    "Composition": (5, 6),
    "Quality": (*range(11, 21), *range(40, 44)),
    "Fidelity": (38, 39, *range(50, 57)),
    "Safety": (*range(61, 65),),
    "Stability": (*range(7, 11), 36, 37, *range(44, 50)),
    "Preservation": (*range(21, 28),),
    "Dynamic": (*range(28, 36),),
    "Physics": (*range(57, 61),),
}
#: DenseDPO's columns: text alignment, visual quality, temporal consistency, dynamic degree.
DENSE_DPO_GROUPS: Mapping[str, tuple[str, ...]] = {
    "TA": ("Alignment",),
    "VQ": ("Composition", "Quality", "Fidelity"),
    "TC": ("Stability", "Physics", "Preservation"),
    "DD": ("Dynamic",),
}


def score(answers: Sequence[str], weights: Sequence[float] = WEIGHTS) -> float:
    """The reward of a video: the mean over questions of +-weight, within +-0.2165 with the published weights.

    Args:
        answers: to the selected questions in their order.
        weights: of these questions.

    Raises:
        ValueError: not one answer per weight.
    """
    return float(np.mean(_signs(answers, len(weights)) * np.asarray(weights)))


def dimensions(answers: Sequence[str]) -> dict[str, float]:
    """The nine dimensions of a video: the mean of +-1 over each one's questions.

    Args:
        answers: to all 64 questions in their order.

    Raises:
        ValueError: there are not 64.
    """
    signs = _signs(answers, NUM_QUESTIONS)
    return {name: _mean_of(signs, questions) for name, questions in DIMENSIONS.items()}


def dense_dpo_columns(answers: Sequence[str]) -> dict[str, float]:
    """DenseDPO's four numbers of a video, TA, VQ, TC and DD, each in [-1, 1]; tables have the mean over videos.

    How answers combine within a column was not published. The unweighted mean over its questions is our inference: the
    published values are beyond what the weighted form can reach.

    Args:
        answers: to all 64 questions in their order.

    Raises:
        ValueError: there are not 64.
    """
    signs = _signs(answers, NUM_QUESTIONS)
    return {
        column: _mean_of(signs, [question for name in names for question in DIMENSIONS[name]])
        for column, names in DENSE_DPO_GROUPS.items()
    }


def _mean_of(signs: np.ndarray, questions: Sequence[int]) -> float:
    """The mean over questions that are counted from 1."""
    return float(np.mean(signs[np.asarray(questions) - 1]))


def _signs(answers: Sequence[str], expected: int) -> np.ndarray:
    """+1 for yes, -1 for anything else."""
    if len(answers) != expected:
        raise ValueError(f"{len(answers)} answers to {expected} questions; ask every question once, in order")
    return np.array([1.0 if answer == "yes" else -1.0 for answer in answers])

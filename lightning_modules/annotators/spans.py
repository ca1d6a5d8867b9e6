"""The span of frames in which something happens, from how well each frame fits its description."""

from __future__ import annotations

import torch
from torch import Tensor


def event_span(scores: Tensor) -> tuple[int, int, float]:
    """First and last frame of the contiguous span that stands out most, and the confidence in it.

    Among all spans but the whole it is the one whose step function (one level inside, a lower one outside) fits the
    scores best in least squares. Confidence is the share of the scores' variance that this step explains, 0 to 1: it
    does not depend on the model's scale. A step explains a part of pure noise, too: 0.34 on average with 16 frames
    (0.54 in one case of twenty), 0.21 (0.32) with 32, 0.13 (0.19) with 64.

    Args:
        scores: (T,) how well each frame fits, T at least 2.

    Returns:
        First and last position, both inside, and the confidence; 0 where all scores are equal.
    """
    values = scores.double() - scores.double().mean()
    length = len(values)
    total = float((values**2).sum())
    if total <= 1e-12:
        return 0, length - 1, 0.0
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    inside = sums[None, :] - sums[:, None]  # [first, last + 1] -> the sum within
    count = torch.arange(length + 1)[None, :] - torch.arange(length + 1)[:, None]
    allowed = (count > 0) & (count < length) & (inside > 0)
    # Scores are centred: with n of T frames and the sum s inside, the step explains s^2 / n + s^2 / (T - n).
    explained = torch.where(allowed, inside**2 * length / (count * (length - count)), 0.0)
    first, end = divmod(int(explained.argmax()), length + 1)
    return first, end - 1, min(float(explained[first, end]) / total, 1.0)

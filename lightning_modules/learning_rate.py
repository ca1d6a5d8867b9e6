"""The learning rate over a run, as a share of its peak."""

from __future__ import annotations

import math
from typing import Literal

LearningRateSchedule = Literal["constant", "linear", "cosine"]


def warmup_factor(step: int, total: int, warmup: float, schedule: LearningRateSchedule) -> float:
    """The learning rate at `step` of `total`, as a share of its peak: linear warm-up, then the schedule.

    Args:
        step: optimizer step, from 0.
        total: all optimizer steps.
        warmup: below 1 a share of all steps, above 1 a number of steps.
        schedule: what follows the warm-up.
    """
    rising = max(1, round(warmup if warmup > 1 else warmup * total))
    if warmup > 0 and step < rising:
        return (step + 1) / rising
    # A run that goes on behind `total` keeps the rate with which the schedule ends.
    progress = min(1.0, (step - rising) / max(1, total - rising)) if step > rising else 0.0
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))

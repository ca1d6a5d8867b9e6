"""Flow times: logit-normal draws and the resolution shift, both in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def logit_normal_time(normal: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Times in (0, 1) from draws of a standard normal, any shape: sigmoid(mean + std normal); p(t) of equation 1."""
    return torch.sigmoid(mean + std * normal.double())


def shift_time(time: Tensor, shift: float) -> Tensor:
    """Move times in [0, 1], any shape, towards noise: s t / (1 + (s - 1) t); 0 and 1 stay, a shift of 1 does nothing.

    The paper samples with 5.66, Wan with 3 at 480p and 5 at 720p.
    """
    time = time.double()
    return shift * time / (1 + (shift - 1) * time)

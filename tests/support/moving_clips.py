"""Small videos of a textured picture that slides, for tests of what chooses among videos."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


@cache
def texture(seed: int = 0, hue: int = 0) -> Tensor:
    """(3, 160, 160) uint8, smooth noise; another hue has other colours."""
    noise = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(seed))
    grey = F.interpolate(noise, size=(160, 160), mode="bicubic").clamp(0, 1)[0]
    colour = torch.zeros(3, 160, 160)
    colour[hue % 3] = grey[0]
    return (colour * 200 + 40).to(torch.uint8)


def sliding(step: float, count: int = 17, size: int = 64, seed: int = 0, hue: int = 0) -> Tensor:
    """(count, 3, size, size) uint8: each frame shows the texture `step` pixels further to the left."""
    picture = texture(seed, hue)
    return torch.stack([picture[:, :size, round(step * i) : round(step * i) + size] for i in range(count)])

"""The one Euler loop from noise to video, for every family that gives a velocity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


@torch.no_grad()
def euler(
    velocity: Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor],
    latents: Tensor,
    levels: Sequence[float],
    prompts: Sequence[Tensor],
    guidance_scale: float,
    negative: Tensor | None,
) -> Tensor:
    """Follow the velocity down the noise levels: x + (next level - level) * velocity, in float32.

    With guidance the velocity is v(negative) + scale * (v(prompt) - v(negative)); the second one is a second row of the
    same pass.

    Args:
        velocity: of `VideoFlow`.
        latents: (B, C, F, H, W) at noise level `levels[0]`.
        levels: S + 1 falling noise levels.
        prompts: B prompt embeddings (n_i, D).
        guidance_scale: of classifier-free guidance; 1 or less = none.
        negative: (n, D) embedding of what to stay away from; not used without guidance.

    Returns:
        (B, C, F, H, W) float32 at noise level `levels[-1]`.
    """
    guided = guidance_scale > 1
    rows = list(prompts)
    if guided:
        assert negative is not None, "guidance needs something to stay away from"
        rows += [negative] * len(rows)
    current = latents.float()
    for level, after in pairwise(levels):
        stacked = torch.cat([current, current]) if guided else current
        found = velocity(stacked, stacked.new_full((len(stacked),), level), rows)
        if guided:
            wanted, unwanted = found.chunk(2)
            found = unwanted + guidance_scale * (wanted - unwanted)
        current = current + (after - level) * found
    return current

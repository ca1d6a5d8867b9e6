"""Motion-aligned pairs from real videos: noise part of the way, denoise (DenseDPO, arXiv 2506.03517, algorithm 2).

Both videos of a pair start from the same real video at the same noise level eta, under two seeds, so that they share
its motion and differ in their artifacts. The paper draws eta from 0.65 to 0.8, one for the pair; eta = 1 is pure noise
and gives the independent pair of plain DPO.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.losses.flow import interpolate, shift_time


def guided_latents(clean: Tensor, noise: Tensor, eta: float) -> Tensor:
    """Where denoising starts: (1 - eta) clean + eta noise.

    Args:
        clean: (B, ...) latents of real videos.
        noise: like clean, standard normal, its own for each video of a pair.
        eta: the noise level in (0, 1]; 1 leaves nothing of the real video.

    Returns:
        Like clean.

    Raises:
        ValueError: eta is outside (0, 1].
    """
    _check_eta(eta)
    level = torch.tensor([eta], dtype=torch.promote_types(clean.dtype, torch.float32), device=clean.device)
    return interpolate(clean, noise, level)


def guided_sigmas(num_steps: int, eta: float, shift: float = 1.0) -> Tensor:
    """The noise levels of denoising from eta: eta, every level of the full schedule below eta, 0.

    The full schedule is i / num_steps, shifted. Under a shift its step round(eta num_steps), where the paper's
    algorithm starts, is not at noise level eta (40 steps, shift 5.66, eta 0.75: at 0.944), and a model that is told
    a level other than that of its latents repairs what is not broken. So eta itself is the first level, and those
    below it follow (13 of 40, 14 steps in all).

    Args:
        num_steps: steps of the full schedule; the paper's 40.
        eta: the noise level of `guided_latents`, in (0, 1]; 1 gives the full schedule.
        shift: see `shift_time`; 1 is the paper's algorithm, which leaves a shift open.

    Returns:
        (number of steps + 1,) float64, strictly falling; an Euler step is x + (next level - level) * velocity.

    Raises:
        ValueError: num_steps or shift is not positive, or eta is outside (0, 1].
    """
    _check_eta(eta)
    if num_steps < 1 or shift <= 0:
        raise ValueError(f"num_steps {num_steps} and shift {shift} must both be positive")
    steps = torch.arange(num_steps, -1, -1, dtype=torch.float64)
    levels = shift_time(steps / num_steps, shift)
    # A level that equals eta but for rounding would be a step that goes nowhere.
    below = levels[levels < eta * (1 - 1e-9)]
    return torch.cat([levels.new_tensor([eta]), below])


def _check_eta(eta: float) -> None:
    if not 0 < eta <= 1:
        raise ValueError(f"eta {eta} is not a noise level in (0, 1]; the paper draws it from 0.65 to 0.8")

"""The one Euler loop from noise to video, for every family that gives a velocity, and its noise levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.time_schedule import shift_time


@torch.no_grad()
def euler(
    velocity: Callable[[Tensor, Tensor, Sequence[Prompt], Sequence[Condition]], Tensor],
    latents: Tensor,
    levels: Sequence[float],
    prompts: Sequence[Prompt],
    conditions: Sequence[Condition],
    guidance_scale: float,
    negative: Prompt | None,
    rows: int | None = None,
) -> Tensor:
    """Follow the velocity down the noise levels: x + (next level - level) * velocity, in float32.

    With guidance the velocity is v(negative) + scale * (v(prompt) - v(negative)); the second one is a second row of the
    same pass, where `rows` allows it.

    Args:
        velocity: of `VideoFlow`.
        latents: (B, C, F, H, W) at noise level `levels[0]`.
        levels: S + 1 falling noise levels.
        prompts: B prompts.
        conditions: B conditions, or none.
        guidance_scale: of classifier-free guidance; 1 or less = none.
        negative: the prompt to stay away from; not used without guidance.
        rows: rows of a forward at most; None = all at once.

    Returns:
        (B, C, F, H, W) float32 at noise level `levels[-1]`.
    """
    guided = guidance_scale > 1
    every, given = list(prompts), list(conditions)
    if guided:
        assert negative is not None, "guidance needs something to stay away from"
        every, given = every + [negative] * len(every), given * 2
    step = rows or len(every)
    parts = [slice(start, start + step) for start in range(0, len(every), step)]
    # Whatever the network computes in: forty roundings to bfloat16 would add up.
    current = latents.float()
    for level, following in pairwise(levels):
        stacked = torch.cat([current, current]) if guided else current
        t = stacked.new_full((len(stacked),), level)
        predicted = torch.cat([velocity(stacked[part], t[part], every[part], given[part]) for part in parts])
        if guided:
            towards, away = predicted.chunk(2)
            predicted = away + guidance_scale * (towards - away)
        current = current + (following - level) * predicted
    return current


def guided_sigmas(num_steps: int, eta: float, shift: float = 1.0) -> Tensor:
    """The noise levels of denoising from eta: eta, every level of the full schedule below eta, 0.

    The full schedule is i / num_steps, shifted. Under a shift its step round(eta num_steps), where the paper's
    algorithm starts, is not at noise level eta (40 steps, shift 5.66, eta 0.75: at 0.944), and a model that is given
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
    check_level(eta)
    if num_steps < 1 or shift <= 0:
        raise ValueError(f"num_steps {num_steps} and shift {shift} must both be positive")
    steps = torch.arange(num_steps, -1, -1, dtype=torch.float64)
    return levels_from(shift_time(steps / num_steps, shift), eta)


def levels_from(schedule: Tensor, eta: float) -> Tensor:
    """Eta and the levels of a schedule below it.

    Args:
        schedule: (S + 1,) float64 falling levels, the last 0.
        eta: the noise level to begin from, in (0, 1].

    Raises:
        ValueError: eta is outside (0, 1].
    """
    check_level(eta)
    # A level that equals eta but for rounding would be a step that goes nowhere.
    return torch.cat([schedule.new_tensor([eta]), schedule[schedule < eta * (1 - 1e-9)]])


def check_level(eta: float) -> None:
    """Refuse what is no noise level.

    Raises:
        ValueError: eta is outside (0, 1].
    """
    if not 0 < eta <= 1:
        raise ValueError(f"eta {eta} is not a noise level in (0, 1]; the paper draws it from 0.65 to 0.8")

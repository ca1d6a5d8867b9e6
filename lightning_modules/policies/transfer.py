"""Small tensors on their way from the CPU to a device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, without the host waiting for it, or for what the device still has to do before.

    `torch.tensor(..., device=...)` and `.to(device)` wait for both: memory that is not page-locked is copied in step.

    Args:
        values: on the CPU, or on the device already.
        device: where to.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def picked(values: Tensor, places: Sequence[Sequence[int]]) -> list[Tensor]:
    """The entries of a tensor at each list of places, for which nothing waits: an index made of a list does."""
    index = sent(torch.tensor([place for row in places for place in row]), values.device)
    return [values[part] for part in torch.split(index, [len(row) for row in places])]

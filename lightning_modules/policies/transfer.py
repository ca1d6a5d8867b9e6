"""Small tensors on their way from the CPU to a device."""

from __future__ import annotations

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

"""Errors of videos for the flow losses, and how closely their values are compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BETA = 500.0


def close(actual: Tensor, expected: Any, tolerance: float = 1e-10) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual.detach(), expected, atol=tolerance, rtol=tolerance)


def random_errors(seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(2, 3, 6, generator=generator, dtype=torch.float64)
    policy = base + 0.01 * torch.randn(2, 3, 6, generator=generator, dtype=torch.float64)
    return [errors.to(dtype) for errors in (*policy, *base)]


SEGMENTS = torch.tensor([0, 0, 0, 1, 1, 2])

"""A resizer of frames for a policy that sees every second pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Halved:
    """Resizer to half the height and width; where the number counts, of a view of two frames to a quarter."""

    by_number: bool = False

    def __call__(self, frames: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        steps = [4 if number == 2 and self.by_number else 2 for number in numbers]
        return [frame[:, ::step, ::step].clone() for frame, step in zip(frames, steps, strict=True)]

"""Frames made as small as a tower sees them, before they travel from a loader's worker to the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_modules.policies.frames import FrameFit, frame_pixels

#: Height and width of the frames that a resizer is tried on: smaller, larger, wide, tall.
TRIED_SIZES = ((24, 40), (450, 600), (640, 360))


@dataclass(frozen=True)
class FrameResizer:
    """Resizer of frames to a tower's square, uint8 to uint8, by the checkpoint's own video processor.

    Processors resize uint8 frames to uint8 ones and normalise those, so that of a resized frame they make the very
    values that they make of the frame.

    Attributes:
        processor: a transformers video processor.
        fit: how a frame becomes a square.
        side: of the tower's square.
    """

    processor: Any
    fit: FrameFit = "processor"
    side: int = 0
    by_number: bool = field(default=False, init=False)

    @classmethod
    def of(cls, processor: Any, fit: FrameFit = "processor", side: int = 0) -> FrameResizer | None:
        """The resizer; None where the processor would make other values of resized frames, as tried on some.

        It would where it resizes to more than it leaves in its crop.
        """
        resizer = cls(processor, fit, side)
        random = torch.Generator().manual_seed(0)
        for height, width in TRIED_SIZES:
            frame = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=random)
            small = resizer([frame], [1])
            if small[0].dtype != torch.uint8:
                return None
            values = [frame_pixels(processor, frames, fit, side) for frames in ([frame], small)]
            if not torch.equal(*values):
                return None
        return resizer

    def __call__(self, frames: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        """U frames (3, H, W) uint8, of sizes that may differ -> U squares (3, S, S) uint8, whatever the numbers."""
        return list(frame_pixels(self.processor, frames, self.fit, self.side, normalise=False))

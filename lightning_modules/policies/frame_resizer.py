"""Frames made as small as a tower sees them, before they travel from a loader's worker to the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_modules.policies.frames import FrameFit, frame_pixels

#: Height and width of the frames that a resizer is tried on: smaller, larger, wide, tall.
_TRIED = ((24, 40), (450, 600), (640, 360))


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
        for height, width in _TRIED:
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


@dataclass(frozen=True)
class GridResizer:
    """Resizer of frames to a grid of patches, uint8 to uint8, of processors that say the grid of a video.

    The processor is asked for the grid, which may follow from the number of frames; of frames of that size it leaves
    the values as they are. A frame of which it would make another size once more stays as it is.

    Attributes:
        processor: a transformers video processor.
        options: of its call.
    """

    processor: Any
    options: Mapping[str, Any]
    #: Height, width and number of frames -> height and width that the processor makes of them.
    _sizes: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict, compare=False)
    by_number: bool = field(default=True, init=False)

    @classmethod
    def of(cls, processor: Any, options: Mapping[str, Any]) -> GridResizer | None:
        """The resizer; None where the processor says no grid, or makes other values of resized frames, as tried.

        VideoLLaMA3's says none before it has looked at the frames.
        """
        if "video_grid_thw" not in processor.model_input_names:
            return None
        resizer, random = cls(processor, options), torch.Generator().manual_seed(0)
        try:
            resizer._size(*_TRIED[0], 2)
        except NotImplementedError:
            return None
        for number, (height, width) in enumerate(_TRIED, 2):
            video = torch.randint(256, (number, 3, height, width), dtype=torch.uint8, generator=random)
            made, again = (
                resizer._made(frames) for frames in (video, torch.stack(resizer(list(video), [number] * number)))
            )
            if not all(torch.equal(made[name], again[name]) for name in made):
                return None
        return resizer

    def __call__(self, frames: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        """U frames (3, H, W) uint8, of views of so many frames -> U frames of the processor's sizes."""
        return [self._resized(frame, number) for frame, number in zip(frames, numbers, strict=True)]

    def _resized(self, frame: Tensor, number: int) -> Tensor:
        height, width = self._size(frame.shape[1], frame.shape[2], number)
        if height * width >= frame.shape[1] * frame.shape[2] or self._size(height, width, number) != (height, width):
            return frame
        from transformers.image_utils import SizeDict
        from transformers.video_processing_utils import BaseVideoProcessor

        # The base's, since the processor's own asks for bounds of the pixels in the place of a size.
        size = SizeDict(height=height, width=width)
        resized: Tensor = BaseVideoProcessor.resize(self.processor, frame[None], size, self.processor.resample)
        return resized[0]

    def _size(self, height: int, width: int, number: int) -> tuple[int, int]:
        """What the processor makes of so many frames of a size; a data set has few."""
        key = (height, width, number)
        if key not in self._sizes:
            # Without content, which costs neither time nor memory, however many frames there are.
            shapes = torch.empty(number, 3, height, width, dtype=torch.uint8, device="meta")
            _, rows, columns = self._made(shapes)["video_grid_thw"][0].tolist()
            self._sizes[key] = rows * self.processor.patch_size, columns * self.processor.patch_size
        return self._sizes[key]

    def _made(self, video: Tensor) -> dict[str, Tensor]:
        """The processor's output for (T, 3, H, W) uint8 frames."""
        made = self.processor(
            videos=[video],
            do_sample_frames=False,
            input_data_format="channels_first",
            return_tensors="pt",
            **self.options,
        )
        return {name: torch.as_tensor(value) for name, value in made.items()}

"""Frames resized by a checkpoint's own video processor, before they travel from a loader's worker to the step."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.shared_frames import ResizeFrames
from lightning_modules.policies.frame_resizer import TRIED_SIZES

#: Options of a processor's call for frames that have their size already.
AS_THEY_ARE: Mapping[str, Any] = {"do_resize": False}


def processor_resizer(processor: Any, options: Mapping[str, Any]) -> ResizeFrames | None:
    """The resizer of a video processor, whose frames it is shown with `AS_THEY_ARE`.

    Args:
        processor: a transformers video processor.
        options: of its call.

    Returns:
        None where the processor makes other values of resized frames than of the frames, as tried on some.
    """
    resizer: GridResizer | MethodResizer
    if "video_grid_thw" in processor.model_input_names:
        resizer = GridResizer(processor, options)
    else:
        resizer = MethodResizer.of(processor, options)
    random = torch.Generator().manual_seed(0)
    for number, (height, width) in enumerate(TRIED_SIZES, 2):
        frames = list(torch.randint(256, (number, 3, height, width), dtype=torch.uint8, generator=random))
        small = resizer(frames, [number] * number)
        resized = options if small[0] is frames[0] else {**options, **AS_THEY_ARE}
        made, again = _made(processor, torch.stack(frames), options), _made(processor, torch.stack(small), resized)
        if made.keys() != again.keys() or not all(torch.equal(made[name], again[name]) for name in made):
            return None
    return resizer


@dataclass(frozen=True)
class GridResizer:
    """Resizer of frames to a grid of patches, uint8 to uint8, of processors that say the grid of a video.

    The grid may follow from the number of frames. A frame that would not become smaller stays as it is.

    Attributes:
        processor: a transformers video processor.
        options: of its call.
    """

    processor: Any
    options: Mapping[str, Any]
    #: Height, width and number of frames -> height and width that the processor makes of them.
    _sizes: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict, compare=False)
    by_number: bool = field(default=True, init=False)

    def __call__(self, frames: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        """U frames (3, H, W) uint8, of views of so many frames -> U frames of the processor's sizes."""
        return [self._resized(frame, number) for frame, number in zip(frames, numbers, strict=True)]

    def _resized(self, frame: Tensor, number: int) -> Tensor:
        height, width = self._size(frame.shape[1], frame.shape[2], number)
        if height * width >= frame.shape[1] * frame.shape[2]:
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
            # VideoLLaMA3's compares frames, to drop tokens that repeat.
            options = {"use_token_compression": False} if hasattr(self.processor, "use_token_compression") else {}
            _, rows, columns = _made(self.processor, shapes, {**self.options, **options})["video_grid_thw"][0].tolist()
            self._sizes[key] = rows * self.processor.patch_size, columns * self.processor.patch_size
        return self._sizes[key]


@dataclass(frozen=True)
class MethodResizer:
    """Resizer of frames by the processor's own method, uint8 to uint8, whatever the number of frames.

    A frame that would not become smaller stays as it is.

    Attributes:
        processor: a transformers video processor.
        method: of the processor; it takes frames first.
        arguments: with which the processor calls it.
    """

    processor: Any
    method: str
    arguments: Mapping[str, Any]
    by_number: bool = field(default=False, init=False)

    @classmethod
    def of(cls, processor: Any, options: Mapping[str, Any]) -> MethodResizer:
        """The resizer, its arguments taken from a call of the processor with these options."""
        # Gemma 4's has a name of its own.
        method = "aspect_ratio_preserving_resize" if hasattr(processor, "aspect_ratio_preserving_resize") else "resize"
        resize, observed, arguments = getattr(processor, method), copy.copy(processor), {}

        def noted(*frames: Tensor, **given: Any) -> Tensor:
            arguments.update({name: value for name, value in given.items() if not isinstance(value, Tensor)})
            resized: Tensor = resize(*frames, **given)
            return resized

        setattr(observed, method, noted)
        _made(observed, torch.zeros(1, 3, *TRIED_SIZES[0], dtype=torch.uint8), options)
        return cls(processor, method, arguments)

    def __call__(self, frames: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        """U frames (3, H, W) uint8 -> U frames of the processor's sizes, whatever the numbers."""
        resized = [getattr(self.processor, self.method)(frame[None], **self.arguments)[0] for frame in frames]
        return [made if made.numel() < frame.numel() else frame for made, frame in zip(resized, frames, strict=True)]


def _made(processor: Any, video: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """A model's inputs that the processor makes of (T, 3, H, W) uint8 frames."""
    made = processor(
        videos=[video],
        do_sample_frames=False,
        input_data_format="channels_first",
        return_tensors="pt",
        **options,
    )
    return {name: torch.as_tensor(made[name]) for name in processor.model_input_names if name in made}

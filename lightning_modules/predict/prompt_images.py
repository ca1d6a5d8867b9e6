"""The images that an image-to-video model starts from, one a prompt, as VBench's image-to-video part has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.video.codec import decode_image

SUFFIXES = (".jpg", ".jpeg", ".png")
#: Missing images that an error lists.
_LISTED = 5


class PromptImages:
    """A folder of images named ``PROMPT.jpg`` or ``.png``.

    Args:
        folder: where they are.
        height: of the video, in pixels.
        width: likewise.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, folder: str, height: int, width: int) -> None:
        self.folder = Path(folder)
        self.height = height
        self.width = width
        if not self.folder.is_dir():
            raise ValueError(f"model.images: no folder {folder!r}; give one with an image a prompt, PROMPT.jpg or .png")

    def require(self, prompts: Iterable[str]) -> None:
        """Refuse prompts without an image, before the first video.

        Raises:
            ValueError: names the first, and says how many there are.
        """
        absent = [prompt for prompt in prompts if self._path(prompt) is None]
        if absent:
            listed = ", ".join(repr(prompt) for prompt in absent[:_LISTED])
            raise ValueError(
                f"{self.folder}: no image of {len(absent)} prompts, {listed}{' ...' if absent[_LISTED:] else ''}; add "
                "them as PROMPT.jpg or .png, or take these prompts out of the file"
            )

    def frame(self, prompt: str) -> Tensor:
        """(1, 3, H, W) uint8: the image, its middle part of the video's shape, at the video's size."""
        import cv2

        path = self._path(prompt)
        assert path is not None, "checked before the run"
        pixels = decode_image(path.read_bytes()).permute(1, 2, 0).numpy()
        height, width = pixels.shape[:2]
        # The largest part of the video's shape that the image holds: cut, so that nothing is stretched.
        scale = min(height / self.height, width / self.width)
        cut_height, cut_width = round(self.height * scale), round(self.width * scale)
        top, left = (height - cut_height) // 2, (width - cut_width) // 2
        # cv2 reads (H, W, 3) in one piece, which a cut of a permuted tensor is not.
        part = np.ascontiguousarray(pixels[top : top + cut_height, left : left + cut_width])
        sized = cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.ascontiguousarray(sized.transpose(2, 0, 1)))[None]

    def _path(self, prompt: str) -> Path | None:
        paths = (self.folder / f"{prompt}{suffix}" for suffix in SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

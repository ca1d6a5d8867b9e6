"""A frame in another size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def fit_frame(frame: Tensor, height: int, width: int) -> Tensor:
    """A frame resized until it covers height x width, its middle cut out.

    Args:
        frame: (3, H, W) uint8 of any size.
        height: in pixels.
        width: in pixels.

    Returns:
        (3, height, width) uint8; equal to `frame` where it has that size.
    """
    scale = max(height / frame.shape[1], width / frame.shape[2])
    size = (max(height, round(frame.shape[1] * scale)), max(width, round(frame.shape[2] * scale)))
    if size != frame.shape[1:]:
        # On uint8 this rounds and clips by itself, and needs a quarter of the memory of float32.
        frame = F.interpolate(frame[None], size=size, mode="bicubic", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return frame[:, top : top + height, left : left + width].contiguous()

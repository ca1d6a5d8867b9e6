"""Style of the reports' pictures: frames side by side, a colour for text, reproducible PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colour of text, readable on white and on black: the pictures have no background.
GREY = "#808080"


def strip_of(frames: Tensor) -> NDArray[np.uint8]:
    """(T, 3, H, W) -> (H, W', 4): the frames side by side, with a transparent gap between two."""
    count, _, height, width = frames.shape
    gap = max(1, width // 24)
    strip = np.zeros((height, count * (width + gap) - gap, 4), np.uint8)
    for index, frame in enumerate(frames.permute(0, 2, 3, 1).cpu().numpy()):
        left = index * (width + gap)
        strip[:, left : left + width, :3] = frame
        strip[:, left : left + width, 3] = 255
    return strip


def png_of(figure: Figure) -> bytes:
    """The figure as PNG, without a background; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True, metadata={"Software": None})
    return buffer.getvalue()

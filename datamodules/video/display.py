"""How a decoded frame is shown: its colours, the shape of its pixels and its orientation, as players show it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from av.sidedata.sidedata import SideDataContainer
from torch import Tensor

#: From this many lines up, a video that does not say so is BT.709 and not BT.601.
HD_LINES = 720
#: ffmpeg's numbers of the transfer functions of high dynamic range.
_HDR = {16: "PQ", 18: "HLG"}
#: ffmpeg's number of a colour matrix that the file does not name.
_UNNAMED = 2
#: How version 0.1.0 called x264. It wrote BT.601 at every size and did not say so.
_FORMER_ENCODER = (b" threads=1 ", b" crf=17.0 ")


class Orientation(NamedTuple):
    """Orientation of a picture, one of eight: transpose it, then flip its columns, then its rows."""

    transpose: bool = False
    flip_columns: bool = False
    flip_rows: bool = False


class Display:
    """Conversion of the decoded frames of one video to pixels as shown.

    Args:
        first: the video's first decoded frame, an `av.VideoFrame`; x264 says only there how it was called.
        pixel_aspect: width over height of a stored pixel; None or 0 = square.

    Raises:
        ValueError: high dynamic range, whose values mean other colours.
    """

    def __init__(self, first: Any, pixel_aspect: Any = None) -> None:
        self.pixel_aspect = float(pixel_aspect or 1)
        # Not `first.side_data`, which makes a cycle of the frame: frames would wait for the garbage collector, and in a
        # forked worker freeing one of the parent's scalers waits for ever for threads that are not there.
        notes = SideDataContainer(first)  # type: ignore[call-arg]  # its stub has no __init__
        self.colours = source_colours(first, notes)
        self.orientation = orientation(notes)

    def frame(self, image: Any) -> Tensor:
        """(3, H, W) uint8 RGB of one decoded frame, upright, with square pixels."""
        pixels = image.to_ndarray(format="rgb24", src_colorspace=self.colours, threads=1)
        frame = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        # As players do, the width is changed and never the height; and before the turn, since pixels are stored so.
        width = max(1, round(frame.shape[2] * self.pixel_aspect))
        if width != frame.shape[2]:
            frame = F.interpolate(frame[None], size=(frame.shape[1], width), mode="bicubic", antialias=True)[0]
        if self.orientation.transpose:
            frame = frame.transpose(1, 2)
        flips = ((2, self.orientation.flip_columns), (1, self.orientation.flip_rows))
        return frame.flip([axis for axis, flipped in flips if flipped]).contiguous()


def source_colours(image: Any, notes: Any) -> str | None:
    """The colour matrix to read a frame by; None = the one that it names, or BT.601 where it names none.

    Args:
        image: the video's first frame.
        notes: its side data.

    Raises:
        ValueError: high dynamic range.
    """
    if (kind := _HDR.get(image.color_trc)) is not None:
        raise ValueError(
            f"is of high dynamic range ({kind}), whose values would be taken for other colours; `ffmpeg -i VIDEO -vf "
            "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable,zscale=t=bt709:m=bt709:r=tv,"
            "format=yuv420p NEW.mp4` maps it to an ordinary one"
        )
    encoder = notes.get("SEI_UNREGISTERED")
    former = encoder is not None and all(part in bytes(encoder) for part in _FORMER_ENCODER)
    if image.height < HD_LINES or image.colorspace != _UNNAMED or former:
        return None
    return "ITU709"


def orientation(notes: Any) -> Orientation:
    """The orientation that the display matrix in a frame's side data gives it.

    (x, y) is shown at (a x + c y, b x + d y), y pointing down.
    """
    matrix = notes.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):  # nearer to a quarter turn
        return Orientation(transpose=True, flip_columns=c < 0, flip_rows=b < 0)
    return Orientation(flip_columns=a < 0, flip_rows=d < 0)

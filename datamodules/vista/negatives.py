"""The negatives by which a level is trained, each a small class that a config chooses by its name here.

Whole video: `Reverse` (default), `Shuffle`, `OtherVideo`, `Noise`, `GivenVideo`. Clip: `RelevantSegment` (default),
`OtherVideoSegment`, `Shuffle`, `Reverse`. Object: `RoiMove` (default), `RoiMask`, `RoiBlur`, `RandomCrop`. The defaults
are the paper's best.

All are pure functions of frames at source resolution, annotation and the draws of (key, seed). A new one subclasses
`VideoNegative`, `ClipNegative` or `ObjectNegative`; any importable class can be named in a config.
"""

from datamodules.vista.object_negatives import ObjectNegative, RandomCrop, RoiBlur, RoiMask, RoiMove
from datamodules.vista.span_negatives import (
    ClipNegative,
    GivenVideo,
    Noise,
    OtherVideo,
    OtherVideoSegment,
    RelevantSegment,
    Reverse,
    Shuffle,
    SpanNegative,
    VideoNegative,
)

__all__ = [
    "ClipNegative",
    "GivenVideo",
    "Noise",
    "ObjectNegative",
    "OtherVideo",
    "OtherVideoSegment",
    "RandomCrop",
    "RelevantSegment",
    "Reverse",
    "RoiBlur",
    "RoiMask",
    "RoiMove",
    "Shuffle",
    "SpanNegative",
    "VideoNegative",
]

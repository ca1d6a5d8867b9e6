"""Small videos that a player shows otherwise than they are stored."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av

from tests.support.paths import DATA

CASES = DATA / "cases" / "videos"
#: The eight orientations: name -> (a, b, c, d) of a display matrix, which shows (x, y) at (a x + c y, b x + d y).
MATRICES: Mapping[str, tuple[int, int, int, int]] = {
    "as stored": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "upside down and mirrored": (1, 0, 0, -1),
    "half a turn": (-1, 0, 0, -1),
    "a quarter turn clockwise": (0, 1, -1, 0),
    "a quarter turn counterclockwise": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transposed along the other diagonal": (0, -1, -1, 0),
}


def with_matrix(video: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The same mp4 with another display matrix in its track header."""
    a, b, c, d = (value << 16 for value in matrix)
    place = video.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", video[place : place + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    return video[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + video[place + 36 :]


def plain_video(
    yuv: tuple[int, int, int],
    size: tuple[int, int],
    pixel_aspect: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    **tags: int,
) -> bytes:
    """Four frames (height, width) of one stored colour, 4:2:0; `tags` say what it means, as color_trc=16."""
    height, width = size
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=8, options=dict(options or {"crf": "5"}))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for _ in range(4):
            image: Any = av.VideoFrame(width, height, "yuv420p")
            for plane, value in zip(image.planes, yuv, strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return buffer.getvalue()

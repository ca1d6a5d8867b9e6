"""Videos by byte range, as browsers ask for them (RFC 9110, section 14)."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from benchmarks.labelling.pairs import VideoFile

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The range begins behind the end."""


def byte_range(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for; None = all of them.

    Several ranges, other units and headers that mean nothing are answered with all bytes, as the standard allows.

    Args:
        header: as ``bytes=0-99``, ``bytes=100-`` or ``bytes=-100``.
        size: of the file.

    Raises:
        UnsatisfiableRangeError: the file has none of these bytes.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    # "-100" means the last hundred bytes.
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        # Its last byte before its first: no range, which the standard wants ignored, not one that cannot be satisfied.
        if match[2] and int(match[2]) < start:
            return None
    if start >= size:
        raise UnsatisfiableRangeError(header)
    return range(start, end)


def video_response(request: Request, video: VideoFile) -> Response:
    """A video or the range of it that is asked for: status 200, 206, 304 or 416.

    Args:
        request: with the headers Range, If-Range and If-None-Match.
        video: all of it.
    """
    size, tag = len(video.content), f'"{video.checksum}"'
    headers = {"Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "private, max-age=86400"}
    if request.headers.get("if-none-match") in (tag, "*"):
        return Response(status_code=304, headers=headers)
    # A tag that is not this video's: the client holds bytes of another one, and gets all of this.
    is_same = request.headers.get("if-range", tag) == tag
    try:
        span = byte_range(request.headers.get("range"), size) if is_same else None
    except UnsatisfiableRangeError:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    if span is None:
        return Response(video.content, media_type="video/mp4", headers=headers)
    headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    return Response(video.content[span.start : span.stop], 206, media_type="video/mp4", headers=headers)

"""Containers of videos, known by their first bytes, and what a file with a video's name is instead.

ffmpeg guesses the format of what it opens, scripts among them (ffconcat, SDP, HLS, DASH), which make it open other
files and addresses. Here the format is one of `CONTAINERS` and never guessed.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

#: Bytes that `container_format` needs: three packets of an MPEG transport stream.
HEAD_BYTES = 1024
#: ffmpeg's name of each container -> what its first bytes match. All of them hold their streams themselves.
CONTAINERS = {
    "mov": re.compile(rb".{4}(ftyp|moov|mdat|free|skip|wide|pnot|styp|moof|sidx|uuid)", re.DOTALL),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3"),
    "avi": re.compile(rb"RIFF.{4}AVI[ X\x19]", re.DOTALL),
    "gif": re.compile(rb"GIF8[79]a"),
    "flv": re.compile(rb"FLV\x01"),
    "asf": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    "ogg": re.compile(rb"OggS"),
    "mpeg": re.compile(rb"\x00\x00\x01\xba"),
    # Packets of 188 bytes, or of 192 with a time stamp before each.
    "mpegts": re.compile(rb"\x47.{187}\x47.{187}\x47|.{4}\x47.{191}\x47.{191}\x47", re.DOTALL),
}
#: What the first bytes of other files match -> the message about them.
_OTHERS = {
    re.compile(rb"version https://git-lfs"): "is a git-lfs pointer, not the video itself; fetch it with `git lfs pull`",
    re.compile(rb"(<\?xml[^>]*>\s*)?(<!doctype html|<html)", re.IGNORECASE): (
        "is a web page, such as a server's error page, not a video; download it again"
    ),
    re.compile(rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<MPD\b", re.DOTALL): (
        "is a DASH manifest, a script that names other files; give the video itself"
    ),
    re.compile(rb"<"): "is an XML or HTML text, not a video; download it again",
    re.compile(rb"RIFF.{4}WAVE", re.DOTALL): "is a sound file, it has no picture stream",
    re.compile(rb"ffconcat\b"): "is an ffconcat script, which names other files; give the video itself",
    re.compile(rb"v=0\r?\n"): "is an SDP session, which names network addresses; give the video itself",
    re.compile(rb"#EXTM3U"): "is an HLS playlist, a script that names other files; give the video itself",
}


def container_format(head: bytes) -> str:
    """Ffmpeg's name of the container that begins with these bytes.

    Args:
        head: the first `HEAD_BYTES` of the file, or all of a shorter one.

    Raises:
        ValueError: it is none of `CONTAINERS`; says what it is instead, as far as that can be seen.
    """
    for name, start in CONTAINERS.items():
        if start.match(head):
            return name
    # Scripts and pages may begin with a byte order mark and blank lines; no container does.
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, meaning in _OTHERS.items():
        if start.match(text):
            raise ValueError(meaning)
    if not head:
        raise ValueError("the file is empty")
    raise ValueError(
        f"its first bytes, {head[:12]!r}, begin no container that is read here ({', '.join(CONTAINERS)}); damaged, or "
        "no video"
    )


def require_regular(path: str | Path) -> None:
    """Refuse what is there and no file to read from: reading a named pipe waits for ever.

    Raises:
        ValueError: a pipe, a device, a socket or a folder.
        OSError: there is nothing, or it may not be looked at.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "named pipe", stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket"}
        raise ValueError(f"{path} is not a regular file but a {kinds.get(stat.S_IFMT(mode), 'device')}")


def file_head(path: str | Path) -> bytes:
    """The first bytes of a regular file.

    Raises:
        ValueError: as `require_regular`.
        OSError: it cannot be read.
    """
    require_regular(path)
    with Path(path).open("rb") as file:
        return file.read(HEAD_BYTES)

"""Files that a user names, before they are read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
#: What a shell opens for its command, as in `<(...)`: there is somebody who writes into it.
_OPENED = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def user_file(path: str | Path) -> Path:
    """The path of a file that is to be read, unless the read would wait for ever, as that of a named pipe does.

    What is missing, a folder or forbidden is left to the read, whose error says so.

    Raises:
        ValueError: a pipe, a socket or a device.
    """
    path = Path(path)
    try:
        kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):
        return path
    if kind is not None and not str(path).startswith(_OPENED):
        raise ValueError(f"{path} is a {kind}, not a file, and reading it could wait for ever; give a regular file")
    return path

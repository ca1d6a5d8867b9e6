"""Files that are written as a whole or not at all, and stay written when the power goes."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file under a partial name, then give it its own."""
    partial = Path(f"{path}.tmp")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(Path(path).parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; not every system lets a folder be opened for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

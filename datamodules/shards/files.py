"""Files and folders that are written as a whole or not at all, and stay written when the power goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_whole(path: str | Path, content: bytes, partial: str | None = None) -> None:
    """Write a file under a partial name, then give it its own.

    Args:
        path: the file.
        content: what it holds.
        partial: the partial name; None = the file's own with ``.tmp`` behind it.
    """
    with replaced_file(path, partial) as file:
        file.write(content)


@contextmanager
def replaced_file(path: str | Path, partial: str | None = None) -> Iterator[IO[bytes]]:
    """A new file to fill, which takes `path`'s name once it is whole and on disk; until then the former one has it.

    Args:
        path: the file.
        partial: the partial name, as for `write_whole`.
    """
    path = Path(path)
    unfinished = path.with_name(partial or f"{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            # Before the name: after a power cut a file system may keep the new name and not the content.
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which takes `target`'s name once it is whole and on disk; until then the former one has it.

    A kill at any moment leaves the former folder, or the new one, or for an instant the former one aside under
    ``.NAME.old``, from where the next call fetches it back before it begins.
    """
    partial, former = target.with_name(f".{target.name}.tmp"), target.with_name(f".{target.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    if former.is_dir():
        if target.is_dir():  # the kill came after the exchange
            shutil.rmtree(former)
        else:
            former.replace(target)
    partial.mkdir(parents=True)
    # No clean-up after an error: the next call empties it, and until then it can be looked at.
    yield partial
    for file in [path for path in partial.rglob("*") if path.is_file()]:
        with file.open("rb+") as written:
            os.fsync(written.fileno())
    if target.exists():  # a folder that is not empty cannot be replaced by a rename
        target.replace(former)
    partial.replace(target)
    sync_folder(target.parent)
    shutil.rmtree(former, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; not every system lets a folder be opened for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

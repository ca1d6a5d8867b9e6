"""Hashes of the files that a model is loaded from: a path alone does not say that they were replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.shards.index import digest
from datamodules.shards.scan import file_sha256
from datamodules.stream.predict_outputs import uncompared


def contents_of(policy: Any) -> dict[str, str]:
    """Setting -> a hash of what it names, for each plain setting that names a local file or folder.

    Weights that were replaced in place under the same name are another model. The hash is of the files' names within
    the folder, their sizes and their bytes, not of their times, which a copy changes; hidden files do not count, nor
    Markdown, which is for people. Every file is read in full, as loading does, a few at a time.
    """
    settings = {name: value for name, value in vars(policy).items() if isinstance(value, str) and name[0] != "_"}
    return {name: _content(Path(value)) for name, value in settings.items() if value and os.path.exists(value)}


def _content(path: Path) -> str:
    """The hash of one file, or of all files below a folder."""
    files = [path] if path.is_file() else list(_files(path))
    with ThreadPoolExecutor(max_workers=8) as pool:  # hashing leaves the interpreter free
        hashes = list(pool.map(_file_hash, files))
    names = [path.name if file == path else file.relative_to(path).as_posix() for file in files]
    # Names count, too: two files that change places are another model.
    facts = [[name, file.stat().st_size, sha256] for name, file, sha256 in zip(names, files, hashes, strict=True)]
    return digest(json.dumps(facts).encode())


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files that count below a folder, in order; a linked folder is one of them unless it leads back up."""
    # A circle of links would have no end.
    real = folder.resolve()
    if real in above:
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path, (*above, real))
        elif path.is_file() and path.suffix.lower() != ".md":
            yield path


def _file_hash(file: Path) -> str:
    """The sha256 of a file, read once in a process as long as its size and time stay: they are the cache's key."""
    facts = file.stat()
    return _hash_of_version(file.resolve(), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_of_version(file: Path, size: int, time: int) -> str:
    return file_sha256(file)


def warn_uncompared(place: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say which files may have been replaced since, unseen: an earlier release did not record their content."""
    if names := uncompared(before, now):
        rank_zero_warn(
            f"{place} was begun by a release that did not record the content of the files in {', '.join(names)}: "
            "whether they have been replaced since is not known"
        )

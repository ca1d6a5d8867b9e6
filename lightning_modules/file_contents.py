"""Hashes of the files that a model is loaded from: a path alone does not say that they were replaced."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.shards.index import digest
from datamodules.stream.predict_outputs import OF_BYTES, uncompared
from datamodules.user_files import user_file

#: Bytes that are read at once.
_PORTION = 2**20
#: Longer headers are read as bytes like any others; safetensors itself refuses them.
_LONGEST_HEADER = 10**8


class FileHash(NamedTuple):
    """Hashes of a file in hex: of what it holds, and of its bytes.

    They differ for safetensors files with several entries of metadata, which the library writes in an order that is
    drawn again in every process: the same adapter, exported again, has other bytes.
    """

    content: str
    of_bytes: str


def contents_of(policy: Any) -> dict[str, Any]:
    """Setting -> a hash of what it names, for each plain setting that names a local file or folder.

    Weights that were replaced in place under the same name are another model. The hash is of the files' names within
    the folder, their sizes and what they hold, not of their times, which a copy changes; hidden files do not count, nor
    Markdown, which is for people. Every file is read in full, as loading does, a few at a time.

    Where the hash of the bytes is another one (`FileHash`), it is under `OF_BYTES`: earlier releases knew no other.
    """
    settings = {name: value for name, value in vars(policy).items() if isinstance(value, str) and name[0] != "_"}
    paths = {name: Path(value) for name, value in settings.items() if value and os.path.exists(value)}
    return with_hashes_of_bytes({name: _content(path) for name, path in paths.items()})


def with_hashes_of_bytes(hashes: Mapping[str, FileHash]) -> dict[str, Any]:
    """Name -> hash of the content; under `OF_BYTES` those hashes of bytes that differ from it."""
    others = {name: pair.of_bytes for name, pair in hashes.items() if pair.of_bytes != pair.content}
    contents: dict[str, Any] = {name: pair.content for name, pair in hashes.items()}
    return contents | ({OF_BYTES: others} if others else {})


def file_hash(file: Path) -> FileHash:
    """The hashes of a file, read once in a process as long as its size and time stay: they are the cache's key."""
    facts = file.stat()
    return _hash_of_version(file.resolve(), facts.st_size, facts.st_mtime_ns)


def _content(path: Path) -> FileHash:
    """The hashes of one file, or of all files below a folder."""
    files = [path] if path.is_file() else list(_files(path))
    with ThreadPoolExecutor(max_workers=8) as pool:  # hashing leaves the interpreter free
        hashes = list(pool.map(file_hash, files))
    names = [path.name if file == path else file.relative_to(path).as_posix() for file in files]
    sizes = [file.stat().st_size for file in files]
    # Names count, too: two files that change places are another model.
    of_content, of_bytes = (
        [[name, size, pair[kind]] for name, size, pair in zip(names, sizes, hashes, strict=True)] for kind in (0, 1)
    )
    return FileHash(digest(json.dumps(of_content).encode()), digest(json.dumps(of_bytes).encode()))


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


@lru_cache(maxsize=4096)
def _hash_of_version(file: Path, size: int, time: int) -> FileHash:
    with user_file(file).open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        # Not by its suffix: in the hub's cache it is a link to a file without one.
        header = stream.read(length) if length <= min(_LONGEST_HEADER, size) else b""
        of_bytes = hashlib.sha256(start + header)
        ordered = _ordered(header)
        content = None if ordered is None else hashlib.sha256(start + ordered)
        while portion := stream.read(_PORTION):
            of_bytes.update(portion)
            if content is not None:
                content.update(portion)
    return FileHash((content or of_bytes).hexdigest(), of_bytes.hexdigest())


def _ordered(header: bytes) -> bytes | None:
    """The header of a safetensors file in an order that does not change; None = it has only one."""
    try:
        fields = json.loads(header)
        several = len(fields["__metadata__"]) > 1
    except (ValueError, RecursionError, TypeError, KeyError):
        return None  # no such file, or one without metadata
    return json.dumps(fields, sort_keys=True).encode() if several else None


def warn_uncompared(place: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say which files may have been replaced since, unseen: an earlier release did not record their content."""
    if names := uncompared(before, now):
        rank_zero_warn(
            f"{place} was begun by a release that did not record the content of the files in {', '.join(names)}: "
            "whether they have been replaced since is not known"
        )

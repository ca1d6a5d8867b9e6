"""Read one tar shard from end to end and say what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

from datamodules.shards.index import Member, SampleEntry, ShardEntry, digest, key_fault, suffix_fault
from datamodules.shards.index_fields import deeper
from datamodules.user_files import user_file

#: (key, parsed .json member or None, suffixes of all members) -> facts for the index; a ValueError refuses the sample.
FactsOf = Callable[[str, Any, Collection[str]], dict[str, Any]]

_BLOCK = 512


def scan_shard(path: Path, shard: int, facts_of: FactsOf) -> tuple[ShardEntry, list[SampleEntry]]:
    """Size, hashes, and every sample of one shard; one member in memory at a time.

    Args:
        path: a local, uncompressed tar.
        shard: the position of the shard in its index, from 0.
        facts_of: makes a sample's facts.

    Raises:
        ValueError: lists everything that is wrong: not a tar, truncated, empty, refused keys, members or samples.
    """
    faults: list[str] = []
    members: dict[str, dict[str, Member]] = {}
    records: dict[str, Any] = {}
    last = None
    try:
        for tar, info in _tar_files(path):
            key, suffix, why = _named(info)
            # webdataset makes a sample of members that follow one another: one in two places would be two samples.
            if key in members and key != last:
                why = why or "the members of a sample must follow one another"
            if why or suffix in members.get(key, {}):
                faults.append(f"{info.name}: {why or 'comes twice'}")
                continue
            content = _content(tar, info)
            members.setdefault(key, {})[suffix] = Member(info.offset_data, info.size, digest(content))
            last = key
            if suffix == "json":
                records[key] = _record(content, key, faults)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such shard") from error
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:  # tarfile lets some ValueErrors through
        raise ValueError(f"{path}: is not a whole, uncompressed tar file: {error}") from error
    entries = []
    for key, own in members.items():
        try:
            entries.append(SampleEntry(key, shard, own, facts_of(key, records.get(key), own.keys())))
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if not entries and not faults:
        faults.append("holds no sample")
    if faults:
        raise ValueError("\n".join(f"{path}: {fault}" for fault in faults))
    return ShardEntry(str(path), path.stat().st_size, file_sha256(path), len(entries)), entries


def file_sha256(path: Path) -> str:
    """The sha256 of a local file, in hex."""
    with user_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tar_files(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar but its folders, in order, none of them read yet.

    Raises:
        EOFError: a member is longer than the tar, or the tar was cut.
        tarfile.TarError: it is none, or damaged.
    """
    end = 0
    with user_file(path).open("rb") as file:
        bounded: Any = _Bounded(file)  # has of a file what tarfile reads by
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            for info in tar:
                member_end = info.offset_data + info.size
                if info.size < 0 or (info.isreg() and not info.issparse() and member_end > bounded.size):
                    raise EOFError(
                        f"{info.name} declares {info.size} bytes and would end at byte {member_end} of the file"
                    )
                end = tar.offset  # where the next header begins
                if not info.isdir():
                    yield tar, info
        # A tar ends with two blocks of zeros; without them it was cut, which tarfile does not always notice.
        file.seek(end)
        if file.read(2 * _BLOCK) != bytes(2 * _BLOCK):
            raise EOFError(f"the mark of its end is missing at byte {end}, it was cut short")


def _named(info: tarfile.TarInfo) -> tuple[str, str, str | None]:
    """Key and suffix of a tar member as webdataset splits them, and why it is refused."""
    name = info.name.removeprefix("./")
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    key = f"{folder}{slash}{stem}"
    if info.issparse():
        return key, suffix, "is a sparse file, which takes more room than the tar; pack it again without --sparse"
    if not info.isreg():
        return key, suffix, "is a link or a device, not a file"
    return key, suffix, key_fault(key) or (suffix_fault(suffix) if stem else "has no key before its suffix")


class _Bounded:
    """File whose reads ask for no more than it has: tarfile takes the memory for what a header declares.

    Args:
        file: open for reading, at its beginning.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """As `file.read`, of a size that is not below 0."""
        return self.file.read(min(size, max(0, self.size - self.file.tell())))


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    assert file is not None, "a regular file has content"
    content = file.read()
    if len(content) != info.size:
        raise EOFError(f"{info.name} is cut short")
    return content


def _record(content: bytes, key: str, faults: list[str]) -> Any:
    try:
        record = json.loads(content)
        if deeper(record):
            raise ValueError("its lists and objects are nested too deep")
    except (ValueError, RecursionError) as error:
        faults.append(f"{key}: .json cannot be parsed: {error}")
        return None
    return record
